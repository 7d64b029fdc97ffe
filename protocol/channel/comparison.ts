/**
 * Six words that both ends of a session see alike, for people who want to check by eye that nobody sits between them:
 * 66 bits of the transcript hash, in the words of BIP-39. SPEC §5.3
 */
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { hkdf } from './derive.ts'
import type { Suite } from './suite.ts'

const WORDS = 6
const WORD_BITS = 11

/** `bindingHash`: of the session's handshake, 32 bytes. */
export function comparisonCode(suite: Suite, bindingHash: Uint8Array): string {
  const bytes = hkdf(suite, bindingHash, new Uint8Array(0), 'mortar comparison v1', 9)
  let bits = 0n
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte)
  bits >>= BigInt(8 * bytes.length - WORDS * WORD_BITS)
  const words: string[] = []
  for (let i = 0; i < WORDS; i++) {
    words.unshift(wordlist[Number(bits & 0x7ffn)] ?? '')
    bits >>= BigInt(WORD_BITS)
  }
  return words.join(' ')
}
