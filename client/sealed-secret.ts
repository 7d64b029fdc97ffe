/** Seals a launch secret to the launcher's key: a fresh X25519 key, HKDF-SHA256, ChaCha20-Poly1305. SPEC §2.6 */
import { hkdf } from '../protocol/channel/derive.ts'
import type { Aead, Suite } from '../protocol/channel/suite.ts'
import { SEALED_SECRET, sealSalt } from '../protocol/control/launcher.ts'
import { concat } from '../protocol/core/bytes.ts'
import { wipe } from '../protocol/core/secret.ts'

/** Returns 80 bytes. `secret`: 32 bytes, the caller's to wipe. Fails with handshake for a key that is none. */
export async function sealLaunchSecret(
  suite: Suite,
  launcherKey: Uint8Array,
  launch: { vm: string; launch: string; secret: Uint8Array },
): Promise<Uint8Array> {
  const ephemeral = suite.generateKeyPair()
  let shared: Uint8Array | undefined
  let key: Uint8Array | undefined
  let aead: Aead | undefined
  try {
    shared = await ephemeral.dh(launcherKey)
    const salt = sealSalt(ephemeral.publicKey, launcherKey, launch.vm, launch.launch)
    key = hkdf(suite, shared, salt, SEALED_SECRET.info, 32)
    aead = suite.algorithms.aead(key)
    return concat(ephemeral.publicKey, aead.seal(0, new Uint8Array(0), launch.secret))
  } finally {
    wipe(shared, key)
    aead?.wipe()
    ephemeral.wipe()
  }
}
