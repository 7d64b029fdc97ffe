/** System accounts of people, and groups of drives, in a VM: numbers that derive from keys and ids, and names that derive from those. SPEC §2.9 */
import { concat, encodeText } from '../core/bytes.ts'
import { sha256 } from '../core/signing.ts'

/** Within 1879048192 to 2147352575, which systemd's table of user ids leaves to nobody. */
const PEOPLE = { least: 0x7000_0000, count: 0x0800_0000, label: 'mortar account v1' } as const
const DRIVES = { least: 0x7800_0000, count: 0x0400_0000, label: 'mortar drive group v1' } as const

/** A user, whose uid is the gid of a group of the same name; or a group. */
export interface Account {
  readonly name: string
  readonly id: number
}

/** Of those who may use every drive of a VM. */
export const ALL_DRIVES: Account = { name: 'mortar-drives', id: 0x7c00_0000 }

/** The account of a person, by the person's Ed25519 key: the same in every VM. */
export function accountOf(key: Uint8Array): Account {
  return derive('m', PEOPLE, key)
}

/** The group of those who may use one drive, by the drive's id. */
export function driveGroupOf(drive: string): Account {
  return derive('d', DRIVES, encodeText(drive))
}

function derive(letter: string, { least, count, label }: typeof PEOPLE | typeof DRIVES, from: Uint8Array): Account {
  const digest = sha256(concat(encodeText(label), new Uint8Array(1), from))
  // count is a power of two, so that no number is likelier than another
  const id = least + (new DataView(digest.buffer, digest.byteOffset).getUint32(0) & (count - 1))
  return { name: `${letter}${id.toString(16)}`, id }
}
