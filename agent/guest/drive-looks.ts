/** Looks at drives that change nothing, each once for all who ask while it is under way. */
import type { Device } from './block-devices.ts'
import { isBlank, startsAsLuks } from './luks.ts'
import { type DriveState, holdsNothing, isOpen, mappingPath, mountFrom } from './open-drives.ts'

export class DriveLooks {
  readonly #states = new Map<string, Promise<DriveState>>()
  readonly #blanks = new Map<string, Promise<boolean>>()

  /** `foreign` for one that cannot be read, which must not hide the others. */
  stateOf(device: Device): Promise<DriveState> {
    return shared(this.#states, device.path, () => stateOf(device).catch(() => 'foreign'))
  }

  /** What holdsNothing() says, or said a moment ago: a change of the drive takes a look of its own. */
  holdsNothing(device: Device): Promise<boolean> {
    return shared(this.#blanks, device.path, () => holdsNothing(device))
  }
}

/** Of what has no mapping the first bytes are read, and more only of what is blank there. */
async function stateOf(device: Device): Promise<DriveState> {
  if (mountFrom(mappingPath(device.serial))) return 'mounted'
  if (isOpen(device.serial)) return 'open'
  if (await startsAsLuks(device.path)) return 'locked'
  return (await isBlank(device.path, device.sizeBytes)) ? 'blank' : 'foreign'
}

function shared<T>(underWay: Map<string, Promise<T>>, key: string, look: () => Promise<T>): Promise<T> {
  const before = underWay.get(key)
  if (before) return before
  const looking = look().finally(() => underWay.delete(key))
  underWay.set(key, looking)
  return looking
}
