/**
 * The inner seal of a secret: the agent offers a key for one use, the client seals to it. What lies in memory or in a record
 * of the session around it is then not the secret itself. SPEC §7.4
 */
import { hkdf } from './channel/derive.ts'
import { sealToKey } from './channel/seal-to-key.ts'
import type { Suite } from './channel/suite.ts'
import { concat, encodeText } from './core/bytes.ts'
import type { Clock } from './core/clock.ts'
import { MortarError } from './core/errors.ts'
import { LIMITS } from './core/limits.ts'
import { wipe } from './core/secret.ts'

const KEY_BYTES = 32
const TAG_BYTES = 16
const NONE = new Uint8Array(0)

/** What both ends of a stream know, and a sealed secret is bound to. */
export interface SealContext {
  readonly suite: Suite
  readonly clock: Clock
  /** transcript hash of the session */
  readonly bindingHash: Uint8Array
  readonly vm: string
}

const INFO = 'mortar secret v1'

/** HKDF's salt. `opening`: the body of the stream's OPEN, which says what the secret is for. */
function saltOf(
  { suite, bindingHash, vm }: SealContext,
  opening: Uint8Array,
  keys: { ephemeral: Uint8Array; offer: Uint8Array },
): Uint8Array {
  return concat(bindingHash, keys.ephemeral, keys.offer, encodeText(vm), suite.algorithms.hash(opening))
}

/** Seals a secret to an offer; the secret stays the caller's to wipe. Fails with handshake for an offer that is no key. */
export function sealToOffer(
  context: SealContext,
  opening: Uint8Array,
  offer: Uint8Array,
  secret: Uint8Array,
): Promise<Uint8Array> {
  const salt = (ephemeral: Uint8Array) => saltOf(context, opening, { ephemeral, offer })
  return sealToKey(context.suite, offer, { salt, info: INFO }, secret)
}

export interface SecretOffer {
  /** X25519, 32 bytes, in ACCEPT */
  readonly publicKey: Uint8Array
  /** The secret, the caller's to wipe. Serves once. Fails with secret-invalid; with timeout after LIMITS.offerMs. */
  open(sealed: Uint8Array): Promise<Uint8Array>
  /** Forgets the key and the time; whoever waits for nothing more calls it. May be repeated. */
  wipe(): void
}

/** Makes a key for one secret, which is forgotten after LIMITS.offerMs; then `onLate` is called, unless it served or was wiped. */
export function offerSecret(context: SealContext, opening: Uint8Array, onLate = () => {}): SecretOffer {
  const { suite, clock } = context
  const pair = suite.generateKeyPair()
  const madeAt = clock.now()
  let over: 'secret-invalid' | 'timeout' | undefined
  const expire = () => {
    over = 'timeout'
    pair.wipe()
  }
  const cancel = clock.after(LIMITS.offerMs, () => {
    expire()
    onLate()
  })
  const stop = () => {
    over ??= 'secret-invalid'
    cancel()
  }
  return {
    publicKey: pair.publicKey,
    wipe() {
      stop()
      pair.wipe()
    },
    async open(sealed) {
      // a program that was stopped meanwhile finds its timer late
      if (!over && clock.now() - madeAt >= LIMITS.offerMs) expire()
      const refusal = over
      stop()
      if (refusal) throw new MortarError(refusal, refusal === 'timeout' ? 'the secret came too late' : '')
      const ephemeral = sealed.slice(0, KEY_BYTES)
      let shared: Uint8Array | undefined
      let key: Uint8Array | undefined
      try {
        if (sealed.length < KEY_BYTES + TAG_BYTES) throw new MortarError('secret-invalid')
        shared = await pair.dh(ephemeral)
        key = hkdf(suite, shared, saltOf(context, opening, { ephemeral, offer: pair.publicKey }), INFO, KEY_BYTES)
        const aead = suite.algorithms.aead(key)
        const plaintext = aead.openSecret(0, NONE, sealed.subarray(KEY_BYTES))
        aead.wipe()
        if (!plaintext) throw new MortarError('secret-invalid')
        return plaintext
      } catch (cause) {
        throw new MortarError('secret-invalid', '', { cause })
      } finally {
        wipe(shared, key)
        pair.wipe()
      }
    },
  }
}
