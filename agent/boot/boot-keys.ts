/**
 * The agent's keys: new at each boot, never on a disk. One seed lives in root's kernel keyring, which ends with the boot,
 * so that an agent that starts again keeps its keys; X25519 and Ed25519 keys are derived from it. SPEC §2.3
 */
import { execFileSync } from 'node:child_process'
import { hkdf } from '../../protocol/channel/derive.ts'
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import { copySecret, wipe } from '../../protocol/core/secret.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'

const SEED_BYTES = 32
const DESCRIPTION = 'mortar-agent:boot'
const NONE = new Uint8Array(0)

export interface BootKeys {
  /** static key of the channel */
  readonly dh: KeyPair
  /** Ed25519 seed, 32 bytes: wiped by whoever ends the agent */
  readonly signSeed: Uint8Array
  readonly signPublicKey: Uint8Array
  /** false when the seed lives in this process only: an agent that starts again is then a stranger to the broker */
  readonly kept: boolean
}

/** Where a boot's seed is kept between two runs of the agent. */
export interface SeedStore {
  /** the seed, the caller's to wipe, or null */
  read(): Uint8Array | null
  /** true when it was kept */
  write(seed: Uint8Array): boolean
}

/** The boot's keys, made now if there are none yet. */
export function bootKeys(suite: Suite, store: SeedStore): BootKeys {
  let seed = store.read()
  let kept = seed !== null
  if (!seed) {
    seed = suite.randomBytes(SEED_BYTES)
    kept = store.write(seed)
  }
  const dhSecret = hkdf(suite, seed, NONE, 'mortar agent dh v1', 32)
  const signSeed = hkdf(suite, seed, NONE, 'mortar agent sign v1', 32)
  const dh = suite.importKeyPair(dhSecret)
  wipe(seed, dhSecret)
  return { dh, signSeed, signPublicKey: signingPublicKey(signSeed), kept }
}

/** Root's user keyring through keyctl; the seed passes through pipes only. Without keyctl or keyring nothing is kept. */
export const kernelKeyring: SeedStore = {
  read() {
    let bytes: Buffer | undefined
    try {
      const id = keyctl(['search', '@u', 'user', DESCRIPTION]).toString().trim()
      bytes = keyctl(['pipe', id])
      return bytes.length === SEED_BYTES ? copySecret(bytes) : null
    } catch {
      return null
    } finally {
      wipe(bytes)
    }
  },
  write(seed) {
    try {
      keyctl(['padd', 'user', DESCRIPTION, '@u'], seed)
      return true
    } catch {
      return false
    }
  },
}

function keyctl(args: readonly string[], input?: Uint8Array): Buffer {
  return execFileSync('keyctl', args, { stdio: ['pipe', 'pipe', 'ignore'], timeout: 5_000, ...(input && { input }) })
}
