/**
 * Whether a key and nonce are ever used twice: every seal of two ends is recorded at the cipher, while several senders write
 * at once in both directions and the keys move on by count and by secrets. SPEC §6
 */
import { REKEY_COUNTER, type Suite } from '../../protocol/channel/suite.ts'
import { driveUnlock } from '../../protocol/commands/drives.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { facts, sessionPair } from '../support/session-pair.ts'

export interface SealCounts {
  /** seals of records, and of secrets within them; those of handshakes and rekeys come on top in `seals` */
  records: number
  seals: number
  keys: number
  /** pairs of key and counter that sealed more than once */
  repeated: number
}

/** How often a key may seal under the reserved counter: sender and receiver each make the next key of it, and send it to nobody. */
const REKEYS_PER_KEY = 2

/** A suite that counts what is sealed under which key and counter, for all ends that are given it. */
export function countingSuite(real: Suite): { suite: Suite; counts: () => SealCounts } {
  // by key in hex: the counters that it sealed with, and how often it made the next key
  const used = new Map<string, { counters: Set<number>; rekeys: number }>()
  let [seals, repeated, records] = [0, 0, 0]
  const suite: Suite = {
    ...real,
    algorithms: {
      ...real.algorithms,
      aead(key) {
        const held = real.algorithms.aead(key)
        const name = Buffer.from(key).toString('hex')
        const use = used.get(name) ?? { counters: new Set(), rekeys: 0 }
        used.set(name, use)
        return {
          ...held,
          seal(counter, associated, plaintext) {
            seals++
            if (counter === REKEY_COUNTER) {
              if (++use.rekeys > REKEYS_PER_KEY) repeated++
            } else {
              // payloads of the handshake have associated data
              if (associated.length === 0) records++
              if (use.counters.has(counter)) repeated++
              use.counters.add(counter)
            }
            return held.seal(counter, associated, plaintext)
          },
        }
      },
    },
  }
  const sealing = () => [...used.values()].filter(({ counters }) => counters.size > 0)
  return { suite, counts: () => ({ records, seals, keys: sealing().length, repeated }) }
}

const SENDERS = 6
/** of each sender in one session, so that a key that moves on by count does so in each */
const MOST_WRITES = 40_000
const unlock = {
  drive: facts.vm,
  serial: '0123456789abcdef0123',
  headerDigest: new Uint8Array(32),
  mountName: 'data',
  readOnly: false,
}

/** One sender: writes small pieces, each awaited, which the other end sends back; it reads at its own pace. */
async function echo(session: ClientSession, writes: number): Promise<void> {
  const call = await session.open(exec, { argv: ['cat'] })
  const write = async () => {
    for (let i = 0; i < writes; i++) {
      await call.write(Uint8Array.of(i, i >> 8))
      // another sender's turn, so that no record holds what all of them say
      await new Promise(resolve => setImmediate(resolve))
    }
    call.end()
  }
  const written = write()
  for await (const _item of call.received());
  await written
}

/** Drive keys while the senders send: each is sealed by itself, and the sending key moves on after it. */
async function sendSecrets(session: ClientSession, senders: { running: boolean }): Promise<void> {
  while (senders.running) {
    const call = await session.open(driveUnlock, unlock)
    await call.sendSecret(new Uint8Array(64).fill(5))
    for await (const _item of call.received());
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

/** Sessions one after the other until so many records were sealed. */
export async function runNonces(records: number): Promise<SealCounts> {
  const { suite, counts } = countingSuite(nativeSuite)
  for (let number = 0; counts().records < records; number++) {
    const { session } = await sessionPair({
      suites: { client: suite, agent: suite },
      handlers: {
        async exec(call) {
          call.accept({})
          for await (const item of call.received()) if (item.type === 'data') await call.write(item.bytes)
          call.post('exit', { code: 0, signal: null })
        },
        async 'drive-unlock'(call) {
          call.accept({})
          await call.secret()
          call.post('done', { mountPoint: '/drives/data', sizeBytes: 1, freeBytes: 1, readOnly: false })
        },
      },
    })
    // every other session without secrets, so that keys last until they move on by count
    const senders = { running: number % 2 === 0 }
    const secrets = sendSecrets(session, senders)
    const writes = Math.min(MOST_WRITES, Math.ceil(records / SENDERS / 4))
    await Promise.all(Array.from({ length: SENDERS }, () => echo(session, writes)))
    senders.running = false
    await secrets
    session.close()
  }
  return counts()
}
