/**
 * The launcher's key: an X25519 key of the part of the broker that starts VMs, new at each start of the broker and signed by
 * the broker's own key. Launch secrets come sealed to it, so that nothing before the launcher sees them. SPEC §2.6
 */
import { concat, encodeText } from '../core/bytes.ts'
import { sign, verify } from '../core/signing.ts'

const LABEL = 'mortar launcher key v1'

/** ephemeral X25519 key, ciphertext, tag */
export const SEALED_SECRET = { keyBytes: 32, bytes: 32 + 32 + 16, info: 'mortar sealed launch secret v1' } as const

export function signLauncherKey(launcherKey: Uint8Array, seed: Uint8Array): Uint8Array {
  return sign(LABEL, launcherKey, seed)
}

/** True when `broker` (Ed25519) signed the launcher's key. */
export function verifyLauncherKey(launcherKey: Uint8Array, signature: Uint8Array, broker: Uint8Array): boolean {
  return verify(LABEL, launcherKey, signature, broker)
}

/** The HKDF salt, which binds a sealed secret to its keys, its VM and its launch. */
export function sealSalt(ephemeral: Uint8Array, launcherKey: Uint8Array, vm: string, launch: string): Uint8Array {
  return concat(ephemeral, launcherKey, encodeText(vm + launch))
}
