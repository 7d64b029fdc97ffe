/**
 * Six words that both ends of a session see alike, for people who want to check by eye that nobody sits between them:
 * 66 bits of the transcript hash, in the words of BIP-39. SPEC §5.3
 */
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { concat } from '../core/bytes.ts'
import { hkdf } from './derive.ts'
import type { Suite } from './suite.ts'

const WORDS = 6
const WORD_BITS = 11

/** `bindingHash`: of the session's handshake, 32 bytes. */
export const comparisonCode = (suite: Suite, bindingHash: Uint8Array): string =>
  words(suite, bindingHash, 'mortar comparison v1')

/** Six words for the keys of one boot, by which people tell boots of a VM apart. SPEC §2.8 */
export const bootWords = (suite: Suite, keys: { agentDh: Uint8Array; agentSign: Uint8Array }): string =>
  words(suite, concat(keys.agentDh, keys.agentSign), 'mortar boot words v1')

function words(suite: Suite, key: Uint8Array, info: string): string {
  const bytes = hkdf(suite, key, new Uint8Array(0), info, 9)
  let bits = 0n
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte)
  bits >>= BigInt(8 * bytes.length - WORDS * WORD_BITS)
  const found: string[] = []
  for (let i = 0; i < WORDS; i++) {
    found.unshift(wordlist[Number(bits & 0x7ffn)] ?? '')
    bits >>= BigInt(WORD_BITS)
  }
  return found.join(' ')
}
