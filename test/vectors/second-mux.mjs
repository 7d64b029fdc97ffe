/** The second implementation of frames and of the inner seal of secrets, written from SPEC §7 alone. node:crypto, no code of ours. */
import { cat, dh, dhPublic, hkdf, seal, sha256, uint } from './second.mjs'

const TYPES = {
  ready: 1,
  ping: 2,
  pong: 3,
  goAway: 4,
  open: 16,
  accept: 17,
  data: 18,
  message: 19,
  secret: 20,
  window: 21,
  end: 22,
  reset: 23,
}

/** SPEC §7.1 */
export const frame = (type, streamId, body, flags = 0) =>
  cat([TYPES[type], flags], uint(body.length, 2), uint(streamId, 4), body)

/** SPEC §7.4: what a SECRET frame holds. `ephemeral` and `offer`: the X25519 secrets of client and agent. */
export function innerSeal({ vm, transcriptHash, opening, ephemeral, offer, secret }) {
  const salt = cat(transcriptHash, dhPublic(ephemeral), dhPublic(offer), Buffer.from(vm), sha256(opening))
  const key = hkdf(dh(ephemeral, dhPublic(offer)), salt, 'mortar secret v1', 32)
  return cat(dhPublic(ephemeral), seal(key, 0, Buffer.alloc(0), secret))
}
