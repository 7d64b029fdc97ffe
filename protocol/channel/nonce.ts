/** How every suite's ChaChaPoly turns a counter into a nonce. SPEC §6 */
import { REKEY_COUNTER } from './suite.ts'

/** The 96-bit nonce of Noise's ChaChaPoly: 32 zero bits and the counter, little-endian (Noise 12.3). */
export function writeNonce(nonce: Uint8Array, counter: number): void {
  if (counter === REKEY_COUNTER) {
    nonce.fill(0xff, 4)
    return
  }
  let rest = counter
  for (let i = 4; i < 12; i++) {
    nonce[i] = rest % 256
    rest = Math.floor(rest / 256)
  }
}
