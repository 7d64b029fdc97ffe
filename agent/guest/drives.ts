/** Drives of the guest. */
import { MortarError } from '../../protocol/core/errors.ts'
import type { User } from './users.ts'
export interface Device {
  readonly serial: string
  readonly path: string
}
export class Drives {
  async find(serial: string): Promise<Device> {
    throw new MortarError('drive-detached', serial)
  }
  async requireFormattable(_d: Device, _e: boolean): Promise<void> {}
  async format(_d: Device, _o: { id: string; label: string; erase: boolean; key: Uint8Array }): Promise<Uint8Array> {
    throw new MortarError('drive-failed')
  }
  async unlock(
    _d: Device,
    _o: { headerDigest: Uint8Array; mountName: string; readOnly: boolean; user: User; key: Uint8Array },
  ): Promise<{ mountPoint: string; sizeBytes: number; freeBytes: number }> {
    throw new MortarError('drive-failed')
  }
  async lock(serial: string): Promise<void> {
    throw new MortarError('drive-detached', serial)
  }
  async list(): Promise<never[]> {
    return []
  }
}
