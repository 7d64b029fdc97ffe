/** Uses secrets as agent, client and launcher do, then looks for them in its own memory. `native` or `noble`; prints JSON. */
import { bootKeys } from '../../agent/boot/boot-keys.ts'
import type { Guest } from '../../agent/guest/guest.ts'
import { SecretAttempts } from '../../agent/guest/secret-attempts.ts'
import { driveUnlock as driveUnlockHandler } from '../../agent/handlers/drives.ts'
import { LauncherKey } from '../../broker/vms/launcher-key.ts'
import { Identity } from '../../client/identity/identity.ts'
import { sealLaunchSecret } from '../../client/vms/sealed-secret.ts'
import { hkdf } from '../../protocol/channel/derive.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import { driveUnlock } from '../../protocol/commands/drives.ts'
import { newSecret, wipe } from '../../protocol/core/secret.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { BACKENDS } from '../support/backends.ts'
import { MemoryScan } from '../support/memory-scan.ts'
import { facts, sessionPair, wallClock } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'

const ROUNDS = 50
const SESSIONS = 5
const real = BACKENDS[process.argv[2] as keyof typeof BACKENDS].suite
const scan = new MemoryScan()
const NONE = new Uint8Array(0)
const agentSign = new Uint8Array(32).fill(8)

let keyName = 'key of the channel'
const noting = (pair: KeyPair): KeyPair => ({
  ...pair,
  async dh(remote) {
    const shared = await pair.dh(remote)
    scan.note('result of DH', shared)
    return shared
  },
})
const suite: Suite = {
  ...real,
  generateKeyPair: () => noting(real.generateKeyPair()),
  importKeyPair(secret) {
    scan.note('private key', secret)
    return noting(real.importKeyPair(secret))
  },
  algorithms: {
    ...real.algorithms,
    aead(key) {
      scan.note(keyName, key)
      return real.algorithms.aead(key)
    },
  },
}

async function channels(): Promise<void> {
  for (let i = 0; i < ROUNDS; i++) {
    const [clientEnd, agentEnd] = transportPair()
    const secrets = [real.randomBytes(32), real.randomBytes(32)] as const
    const [ownerKeys, agentKeys] = [suite.importKeyPair(secrets[0]), suite.importKeyPair(secrets[1])]
    const launchSecret = newSecret(32).fill(3)
    const common = { clock: wallClock, facts, suite }
    const contact = { kind: 'first', launchSecret } as const
    const [client, agent] = await Promise.all([
      SecureChannel.open({
        ...common,
        transport: clientEnd,
        ownerKeys,
        agent: { dh: agentKeys.publicKey, sign: agentSign },
        contact,
      }),
      SecureChannel.accept({
        ...common,
        transport: agentEnd,
        agentKeys,
        agentSign,
        ownerDh: ownerKeys.publicKey,
        launchSecret,
        admit() {},
      }),
    ])
    keyName = 'key after a rekey'
    client.rekeySending()
    agent.rekeyReceiving()
    client.send(new Uint8Array(100))
    await agent.receive()
    keyName = 'key of the channel'
    client.close()
    agent.close()
    ownerKeys.wipe()
    agentKeys.wipe()
    wipe(...secrets)
  }
}

async function identities(): Promise<void> {
  const launcher = new LauncherKey()
  keyName = 'key of a sealed launch secret'
  for (let i = 0; i < ROUNDS; i++) {
    const identity = Identity.create(real)
    identity.withSeed(seed => scan.note('identity seed', seed))
    identity.withSigningSeed(seed => scan.note('signing seed', seed))
    const secret = identity.launchSecret(facts.vm, facts.launch)
    scan.note('launch secret', secret)
    const launch = { vm: facts.vm, launch: facts.launch, secret }
    const sealed = await sealLaunchSecret(suite, launcher.publicKey, launch)
    const driveKey = identity.driveKey(facts.vm, real.randomBytes(32))
    scan.note('drive key', driveKey)
    scan.note('drive key, second half', driveKey.subarray(32))
    wipe(secret, driveKey, launcher.open(sealed, facts.vm, facts.launch))
    identity.wipe()
    const keep = (seed: Uint8Array) => {
      scan.note('boot seed', seed)
      return true
    }
    const keys = bootKeys(real, { read: () => null, write: keep })
    wipe(keys.signSeed)
    keys.dh.wipe()
  }
}

/** Sessions that stay open, each after a drive was unlocked: notes the keys that are of no more use. */
async function unlocked(): Promise<ClientSession[]> {
  const replaced: Suite = {
    ...real,
    algorithms: {
      ...real.algorithms,
      aead(key) {
        const held = real.algorithms.aead(key)
        const masked = new MemoryScan()
        masked.note('', key)
        const wipeIt = () => {
          scan.adopt('replaced key', masked)
          held.wipe()
        }
        return { ...held, wipe: wipeIt }
      },
    },
  }
  const mounted = { mountPoint: '/drives/data', sizeBytes: 1, freeBytes: 1, readOnly: false }
  const guest = {
    drives: { find: async () => ({}), unlock: async () => mounted },
    secretAttempts: new SecretAttempts(wallClock),
    log: () => undefined,
  } as unknown as Guest
  const sessions: ClientSession[] = []
  for (let i = 0; i < SESSIONS; i++) {
    const { session } = await sessionPair({
      suites: { client: replaced, agent: replaced },
      handlers: { 'drive-unlock': call => driveUnlockHandler(call, guest) },
    })
    const drive = { drive: facts.vm, serial: '0123456789abcdef0123', headerDigest: new Uint8Array(32) }
    const call = await session.open(driveUnlock, { ...drive, mountName: 'data', readOnly: false })
    const secret = real.randomBytes(64)
    scan.note('drive key', secret)
    await call.sendSecret(secret)
    for await (const item of call.received()) if (item.type !== 'message') throw new Error('no message')
    sessions.push(session)
  }
  return sessions
}

const open = await unlocked()
const afterUnlock = scan.run()
for (const session of open) session.close()
const planted = Array.from({ length: 10 }, () => real.randomBytes(32))
for (const secret of planted) scan.note('planted', secret)
await channels()
await identities()
// what was noted is left over by the last round on stack and in registers; this one is noted by nobody
wipe(hkdf(real, real.randomBytes(32), NONE, 'another', 64))
for (let i = 0; i < 3; i++) {
  globalThis.gc?.()
  await new Promise(resolve => setTimeout(resolve, 20))
}
const atEnd = scan.run()
process.stdout.write(JSON.stringify({ afterUnlock, atEnd, planted: planted.length }))
