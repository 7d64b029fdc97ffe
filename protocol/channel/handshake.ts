/** Noise's HandshakeState (section 5.3): runs any pattern of patterns.ts, one message at a time. */
import { concat } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { wipe } from '../core/secret.ts'
import type { CipherState } from './cipher-state.ts'
import { findPattern, type Pattern, parseProtocolName, type Token } from './patterns.ts'
import type { Algorithms, KeyPair, Suite } from './suite.ts'
import { SymmetricState } from './symmetric-state.ts'

const KEY_BYTES = 32
const TAG_BYTES = 16

export interface HandshakeOptions {
  readonly suite: Suite
  /** such as Noise_XKpsk3_25519_ChaChaPoly_SHA256 */
  readonly protocolName: string
  /** the cipher and the hash of the name; the suite's unless given */
  readonly algorithms?: Algorithms
  readonly initiator: boolean
  readonly prologue: Uint8Array
  readonly staticKeys?: KeyPair | undefined
  readonly remoteStatic?: Uint8Array | undefined
  /** one per psk modifier, in order; 32 bytes, the caller's to wipe; a promise is awaited when its token comes */
  readonly psks?: readonly Uint8Array[]
  /** for test vectors only */
  readonly ephemeralKeys?: KeyPair | undefined
}

export class Handshake {
  readonly #options: HandshakeOptions
  readonly #pattern: Pattern
  readonly #state: SymmetricState
  readonly #psks: Uint8Array[]
  #ephemeral: KeyPair | undefined
  #remoteStatic: Uint8Array | undefined
  #remoteEphemeral: Uint8Array | undefined
  #turn = 0

  constructor(options: HandshakeOptions) {
    this.#options = options
    this.#pattern = findPattern(parseProtocolName(options.protocolName).pattern)
    this.#state = new SymmetricState(options.algorithms ?? options.suite.algorithms, options.protocolName)
    this.#psks = [...(options.psks ?? [])]
    this.#remoteStatic = options.remoteStatic
    this.#state.mixHash(options.prologue)
    const mine = options.staticKeys?.publicKey
    const [initiatorKey, responderKey] = options.initiator ? [mine, this.#remoteStatic] : [this.#remoteStatic, mine]
    if (this.#pattern.initiatorKnown) this.#state.mixHash(present(initiatorKey))
    if (this.#pattern.responderKnown) this.#state.mixHash(present(responderKey))
  }

  /** True once every message of the pattern has passed. */
  get complete(): boolean {
    return this.#turn === this.#pattern.messages.length
  }

  /** The other end's static key, once its message was read or if it was known. */
  get remoteStatic(): Uint8Array | undefined {
    return this.#remoteStatic
  }

  /** Transcript hash; binds the session once complete. */
  get hash(): Uint8Array {
    return this.#state.hash
  }

  /** Adds a psk that is chosen only after an earlier message was read. */
  addPsk(psk: Uint8Array): void {
    this.#psks.push(psk)
  }

  async write(payload: Uint8Array): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    for (const token of this.#nextTokens()) {
      if (token === 'e') parts.push(this.#sendEphemeral())
      else if (token === 's') parts.push(this.#state.encryptAndHash(present(this.#options.staticKeys).publicKey))
      else await this.#mix(token)
    }
    parts.push(this.#state.encryptAndHash(payload))
    return concat(...parts)
  }

  /** Fails with handshake, whatever was wrong: an attacker learns nothing more. */
  async read(message: Uint8Array): Promise<Uint8Array> {
    try {
      let offset = 0
      const take = (length: number) => {
        if (message.length < offset + length) throw new MortarError('handshake')
        offset += length
        return message.subarray(offset - length, offset)
      }
      for (const token of this.#nextTokens()) {
        if (token === 'e') this.#receiveEphemeral(take(KEY_BYTES).slice())
        else if (token === 's') {
          const sealed = take(this.#state.hasKey ? KEY_BYTES + TAG_BYTES : KEY_BYTES)
          this.#remoteStatic = this.#state.decryptAndHash(sealed)
        } else await this.#mix(token)
      }
      return this.#state.decryptAndHash(message.subarray(offset))
    } catch (cause) {
      this.wipe()
      throw new MortarError('handshake', '', { cause })
    }
  }

  /** The ciphers of this end, for sending and receiving, and the hash that binds them. Only once complete. */
  split(): { sending: CipherState; receiving: CipherState; hash: Uint8Array } {
    if (!this.complete) throw new MortarError('internal', 'the handshake is not complete')
    const hash = this.#state.hash
    const [first, second] = this.#state.split()
    this.wipe()
    return this.#options.initiator
      ? { sending: first, receiving: second, hash }
      : { sending: second, receiving: first, hash }
  }

  wipe(): void {
    this.#ephemeral?.wipe()
    this.#state.wipe()
    wipe(...this.#psks)
  }

  #nextTokens(): readonly Token[] {
    const tokens = this.#pattern.messages[this.#turn]
    if (!tokens) throw new MortarError('internal', 'the handshake is over')
    this.#turn++
    return tokens
  }

  #sendEphemeral(): Uint8Array {
    this.#ephemeral = this.#options.ephemeralKeys ?? this.#options.suite.generateKeyPair()
    this.#mixEphemeral(this.#ephemeral.publicKey)
    return this.#ephemeral.publicKey
  }

  #receiveEphemeral(key: Uint8Array): void {
    this.#remoteEphemeral = key
    this.#mixEphemeral(key)
  }

  /** With psk modifiers the ephemeral key goes into the chaining key too (Noise 9.2). */
  #mixEphemeral(key: Uint8Array): void {
    this.#state.mixHash(key)
    if (this.#pattern.pskCount > 0) this.#state.mixKey(key)
  }

  async #mix(token: Token): Promise<void> {
    if (token === 'psk') {
      const psk = present(this.#psks.shift())
      this.#state.mixKeyAndHash(psk)
      wipe(psk)
      return
    }
    // in es and se the first letter is the initiator's key, the second the responder's
    const [initiatorHalf, responderHalf] = [token.charAt(0), token.charAt(1)]
    const [mine, theirs] = this.#options.initiator ? [initiatorHalf, responderHalf] : [responderHalf, initiatorHalf]
    const keys = present(mine === 'e' ? this.#ephemeral : this.#options.staticKeys)
    const shared = await keys.dh(present(theirs === 'e' ? this.#remoteEphemeral : this.#remoteStatic))
    this.#state.mixKey(shared)
    wipe(shared)
  }
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new MortarError('internal', 'the pattern needs a key that was not given')
  return value
}
