/** The checkers that messages are made of. The only file that names zod's values. */
import { z } from 'zod'
import { decodeBase64url } from './bytes.ts'

export { z }

/** An object in which unknown members are refused. */
export const object = z.strictObject
/** Bytes of an exact length. */
export const bytes = (length: number) =>
  bytesUpTo(length).refine(value => value.length === length, `needs ${length} bytes`)
/** Bytes up to a length. */
export const bytesUpTo = (length: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.length <= length, `needs up to ${length} bytes`)
/** A public value as base64url text of an exact number of bytes. */
export const base64urlOf = (length: number) =>
  z
    .string()
    .max(2 * length + 4)
    .refine(text => {
      try {
        return decodeBase64url(text).length === length
      } catch {
        return false
      }
    }, `needs ${length} bytes as base64url`)
/** A version 4 UUID, lower case: ids of VMs, launches, sessions and drives. */
export const uuid = z
  .string()
  .regex(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/, 'needs a UUID')
/** A name that people give: lower-case letters, digits, dot, dash; 1 to 63 characters. */
export const name = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, 'needs 1 to 63 of a-z, 0-9, dot and dash, not first or last a sign')
/** Text of bounded length without control characters. */
export const text = (length: number) =>
  z
    .string()
    .max(length)
    .refine(value => !/\p{Cc}/u.test(value), 'must not hold control characters')
export const uint = (largest = Number.MAX_SAFE_INTEGER) => z.int().min(0).max(largest)
/** Which boot of a VM. SPEC §2.4, §3.2 */
export const generation = uint(2 ** 31 - 1)
