/**
 * Uses known secrets as agent, client and launcher do, while the memory that it gives back is searched for them. With
 * `marks` it prints what to look for; `leak` decodes a key in a way that leaves copies, as a control of the search.
 */
import { createPrivateKey } from 'node:crypto'
import { LauncherKey } from '../../broker/vms/launcher-key.ts'
import { Identity } from '../../client/identity/identity.ts'
import { sealLaunchSecret } from '../../client/vms/sealed-secret.ts'
import { CipherState } from '../../protocol/channel/cipher-state.ts'
import { hkdf } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { REKEY_COUNTER, type Suite } from '../../protocol/channel/suite.ts'
import { encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import { newSecret, wipe } from '../../protocol/core/secret.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { offerSecret, sealToOffer } from '../../protocol/secret-offer.ts'
import { facts, wallClock } from '../support/session-pair.ts'

const NONE = new Uint8Array(0)
/** a secret of 32 bytes, different for each number */
const known = (number: number) => newSecret(32).map((_, i) => 17 * number + 7 * i)

const SEED = 1
const STATIC = 2
const CHANNEL_KEY = 3
const DELIVERED = 4
const LAUNCH = 5
const LEAKED = 6
/** not looked for: another's key, a salt, a session */
const OTHERS = 7

/** name to secret; computed by noble, so that nothing of Node's has seen them before */
async function marks(): Promise<Record<string, Uint8Array>> {
  const suite = nobleSuite
  const identity = Identity.fromSeed(suite, known(SEED))
  const shared = await suite.importKeyPair(known(STATIC)).dh(suite.importKeyPair(known(OTHERS)).publicKey)
  return {
    control: known(LEAKED),
    'seed of an identity': known(SEED),
    'key of a drive': identity.driveKey(facts.vm, known(OTHERS)),
    'launch secret that was derived': identity.launchSecret(facts.vm, facts.launch),
    'private key of the channel': known(STATIC),
    'result of DH': shared,
    'key that was derived from it': hkdf(suite, shared, NONE, 'derived', 32),
    'key of the channel': known(CHANNEL_KEY),
    'next key of the channel': suite.algorithms.aead(known(CHANNEL_KEY)).seal(REKEY_COUNTER, NONE, new Uint8Array(32)),
    'secret that was delivered': known(DELIVERED),
    'launch secret that was sealed to the launcher': known(LAUNCH),
  }
}

async function use(suite: Suite): Promise<void> {
  const [seed, secret] = [known(SEED), known(STATIC)]
  const identity = Identity.fromSeed(suite, seed)
  wipe(seed, identity.driveKey(facts.vm, known(OTHERS)), identity.launchSecret(facts.vm, facts.launch))
  identity.wipe()
  const pair = suite.importKeyPair(secret)
  const shared = await pair.dh(nobleSuite.importKeyPair(known(OTHERS)).publicKey)
  wipe(secret, hkdf(suite, shared, NONE, 'derived', 32), shared)
  pair.wipe()

  const key = known(CHANNEL_KEY)
  const state = new CipherState(suite.algorithms, key)
  wipe(key)
  state.seal(encodeText('a record'))
  state.rekey()
  state.wipe()

  const context = { suite, clock: wallClock, bindingHash: known(OTHERS), vm: facts.vm }
  const offer = offerSecret(context, NONE)
  const delivered = known(DELIVERED)
  const sealed = await sealToOffer(context, NONE, offer.publicKey, delivered)
  wipe(delivered, await offer.open(sealed))

  const launcher = new LauncherKey()
  const launchSecret = known(LAUNCH)
  const launch = { vm: facts.vm, launch: facts.launch, secret: launchSecret }
  wipe(launcher.open(await sealLaunchSecret(suite, launcher.publicKey, launch), facts.vm, facts.launch), launchSecret)
}

/** OpenSSL frees what it decodes a key in as it is. */
function leak(): void {
  const der = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), known(LEAKED)])
  createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  wipe(der)
}

if (process.argv[2] === 'marks') {
  const found = Object.entries(await marks()).map(([name, bytes]) => [name, encodeHex(bytes.subarray(8, 24))])
  process.stdout.write(JSON.stringify(Object.fromEntries(found)))
} else {
  if (process.argv[2] === 'leak') leak()
  else await use(nativeSuite)
  for (let i = 0; i < 2; i++) {
    globalThis.gc?.()
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
