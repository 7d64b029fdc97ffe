/** Seals a launch secret to the launcher's key. SPEC §2.6 */
import { sealToKey } from '../../protocol/channel/seal-to-key.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { SEALED_SECRET, sealSalt } from '../../protocol/control/launcher.ts'

/** Returns 80 bytes. `secret`: 32 bytes, the caller's to wipe. Fails with handshake for a key that is none. */
export function sealLaunchSecret(
  suite: Suite,
  launcherKey: Uint8Array,
  { vm, launch, secret }: { vm: string; launch: string; secret: Uint8Array },
): Promise<Uint8Array> {
  const salt = (ephemeral: Uint8Array) => sealSalt(ephemeral, launcherKey, vm, launch)
  return sealToKey(suite, launcherKey, { salt, info: SEALED_SECRET.info }, secret)
}
