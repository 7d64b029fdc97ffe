/**
 * Drives: LUKS2 volumes that the broker hot-plugged and only the owner's key opens. Format and unlock take one secret
 * (64 bytes) in their stream. The header digest lets the owner notice a header that the host forged. SPEC §9.4
 */
import { LIMITS } from '../core/limits.ts'
import { bytes, object, text, uint, uuid, z } from '../core/schema.ts'
import { defineCommand } from './command.ts'

const serial = z.string().regex(/^[0-9a-f]{20}$/)
const which = { drive: uuid, serial }
const names = { drive: 'drive', serial: 'serial' } as const

/** Writes a LUKS2 header and an ext4 file system. Refused with drive-not-empty unless `erase`. */
export const driveFormat = defineCommand({
  name: 'drive-format',
  permission: 'drives',
  params: object({ ...which, label: text(16), erase: z.boolean() }),
  names,
  ready: object({}),
  toAgent: {},
  /** after the secret: SHA-256 of the header area, which the owner keeps */
  toClient: { done: object({ headerDigest: bytes(32) }) },
  takesSecret: true,
})

/** Checks the header in the guest's memory against the digest, opens the drive with that copy, mounts it. */
export const driveUnlock = defineCommand({
  name: 'drive-unlock',
  permission: 'drives',
  params: object({
    ...which,
    headerDigest: bytes(32),
    /** directory below /drives */
    mountName: z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/),
    readOnly: z.boolean(),
  }),
  names,
  ready: object({}),
  toAgent: {},
  /** after the secret: as the kernel has it then */
  toClient: {
    done: object({ mountPoint: text(255), sizeBytes: uint(), freeBytes: uint(), readOnly: z.boolean() }),
  },
  takesSecret: true,
})

/** Unmounts and closes; the key leaves the guest's kernel. While programs use it, it stays, and those are named. */
export const driveLock = defineCommand({
  name: 'drive-lock',
  permission: 'drives',
  params: object(which),
  names,
  ready: object({
    locked: z.boolean(),
    /** processes that use it, and as whom */
    holders: z.array(object({ pid: uint(), user: text(32) })).max(LIMITS.driveHolders),
  }),
  toAgent: {},
  toClient: {},
  takesSecret: false,
})

export const driveList = defineCommand({
  name: 'drive-list',
  permission: 'drives',
  params: object({}),
  names: {},
  ready: object({
    drives: z
      .array(
        object({
          serial,
          state: z.enum(['blank', 'locked', 'open', 'mounted', 'foreign']),
          sizeBytes: uint(),
          mountPoint: text(255).nullable(),
          readOnly: z.boolean().nullable(),
        }),
      )
      .max(64),
  }),
  toAgent: {},
  toClient: {},
  takesSecret: false,
})
