/** How the ciphers of Noise turn a counter into a nonce (Noise 12.3, 12.4). SPEC §6 */
import { type CipherName, REKEY_COUNTER } from './suite.ts'

/** 32 zero bits and the counter: little-endian for ChaChaPoly, big-endian for AESGCM. `nonce`: 12 bytes. */
export const NONCES: Readonly<Record<CipherName, (nonce: Uint8Array, counter: number) => void>> = {
  ChaChaPoly: (nonce, counter) => write(nonce, counter, 4, 1),
  AESGCM: (nonce, counter) => write(nonce, counter, 11, -1),
}

function write(nonce: Uint8Array, counter: number, lowest: number, step: 1 | -1): void {
  if (counter === REKEY_COUNTER) {
    nonce.fill(0xff, 4)
    return
  }
  let rest = counter
  for (let i = 0; i < 8; i++) {
    nonce[lowest + step * i] = rest % 256
    rest = Math.floor(rest / 256)
  }
}
