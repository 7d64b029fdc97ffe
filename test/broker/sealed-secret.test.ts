/** Launch secrets on their way to the launcher: sealed to its key, its VM and its launch, by both suites. SPEC §2.6 */
import { expect, test } from 'vitest'
import { LauncherKey } from '../../broker/vms/launcher-key.ts'
import { sealLaunchSecret } from '../../client/vms/sealed-secret.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { SEALED_SECRET, signLauncherKey, verifyLauncherKey } from '../../protocol/control/launcher.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { recordingSuite } from '../support/recording-suite.ts'

const secret = new Uint8Array(32).fill(5)
const launch = { vm: 'vm', launch: 'launch', secret }
const launcher = new LauncherKey()

test.each([
  ['noble', nobleSuite],
  ['native', nativeSuite],
])('%s seals, the launcher opens', async (_, suite) => {
  const sealed = await sealLaunchSecret(suite, launcher.publicKey, launch)
  expect(sealed).toHaveLength(SEALED_SECRET.bytes)
  expect(Buffer.from(sealed).includes(Buffer.from(secret.subarray(0, 8)))).toBe(false)
  expect(Buffer.from(launcher.open(sealed, 'vm', 'launch'))).toEqual(Buffer.from(secret))
})

test('sealing leaves nothing behind, whether it succeeds or not', async () => {
  const { suite, left, moving } = recordingSuite(nativeSuite)
  await sealLaunchSecret(suite, launcher.publicKey, launch)
  await expect(sealLaunchSecret(suite, new Uint8Array(32), launch)).rejects.toMatchObject({ code: 'handshake' })
  expect(left()).toEqual([])
  expect(moving()).toEqual([])
})

test('another key, VM or launch, and any bit changed, is refused', async () => {
  const sealed = await sealLaunchSecret(nobleSuite, launcher.publicKey, launch)
  const refused = expect.objectContaining({ code: 'launcher-changed' })
  expect(() => new LauncherKey().open(sealed, 'vm', 'launch')).toThrowError(refused)
  expect(() => launcher.open(sealed, 'other', 'launch')).toThrowError(refused)
  expect(() => launcher.open(sealed, 'vm', 'other')).toThrowError(refused)
  for (let bit = 0; bit < 8 * sealed.length; bit++) {
    const changed = sealed.slice()
    changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7))
    // X25519 ignores the top bit of a key (RFC 7748); the salt does not
    expect(() => launcher.open(changed, 'vm', 'launch'), `bit ${bit}`).toThrowError(refused)
  }
  expect(() => launcher.open(sealed.subarray(0, 20), 'vm', 'launch')).toThrowError(refused)
})

test("a launcher's key that the broker did not sign is none", () => {
  const seed = new Uint8Array(32).fill(1)
  const signature = signLauncherKey(launcher.publicKey, seed)
  expect(verifyLauncherKey(launcher.publicKey, signature, signingPublicKey(seed))).toBe(true)
  expect(verifyLauncherKey(new LauncherKey().publicKey, signature, signingPublicKey(seed))).toBe(false)
  expect(verifyLauncherKey(launcher.publicKey, signature, signingPublicKey(new Uint8Array(32)))).toBe(false)
})
