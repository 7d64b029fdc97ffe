/** Looking for devices that are being plugged in: one look every so often for all who wait, as long as anybody does. */
import { MortarError } from '../../protocol/core/errors.ts'
import { clock } from '../process/clock.ts'
import { type Device, theDevice } from './block-devices.ts'

/** ms that a hot-plugged device may take to appear, and between looks for it */
const APPEAR_MS = 10_000
const LOOK_MS = 200

interface Waiting {
  readonly serial: string
  readonly giveUp: number
  found(device: Device): void
  failed(thrown: unknown): void
}

export class DeviceWatch {
  readonly #look: () => Device[]
  readonly #waiting = new Set<Waiting>()
  #timer: NodeJS.Timeout | undefined

  constructor(look: () => Device[]) {
    this.#look = look
  }

  /** The device of that serial. Fails with drive-detached, with drive-failed when several claim it, and with the signal's reason. */
  async find(serial: string, signal: AbortSignal): Promise<Device> {
    signal.throwIfAborted()
    return theDevice(this.#look(), serial) ?? this.#appears(serial, signal)
  }

  #appears(serial: string, signal: AbortSignal): Promise<Device> {
    const { promise, resolve: found, reject: failed } = Promise.withResolvers<Device>()
    const waiting = { serial, giveUp: clock.now() + APPEAR_MS, found, failed }
    const gone = () => failed(signal.reason)
    signal.addEventListener('abort', gone, { once: true })
    this.#waiting.add(waiting)
    this.#timer ??= setInterval(() => this.#lookForAll(), LOOK_MS)
    return promise.finally(() => {
      signal.removeEventListener('abort', gone)
      this.#waiting.delete(waiting)
      if (this.#waiting.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    })
  }

  #lookForAll(): void {
    const devices = this.#look()
    for (const { serial, giveUp, found, failed } of this.#waiting) {
      try {
        const device = theDevice(devices, serial)
        if (device) found(device)
        else if (clock.now() >= giveUp) failed(new MortarError('drive-detached', serial))
      } catch (thrown) {
        failed(thrown)
      }
    }
  }
}
