/**
 * A broker under a load of messages and silent sockets from somebody who proves nothing: what it takes in memory, and what a
 * session that somebody has meanwhile notices of it.
 */
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { nodeHost } from '../../client/node/host.ts'
import { connectVm } from '../../client/sessions/connect.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { rssOf } from '../support/process.ts'
import { type KillingPlace, makePlace } from './killing-place.ts'

export interface LoadOptions {
  readonly messages: number
  readonly idleSockets: number
  readonly messagesPerSecond: number
  /** round trips measured before the load */
  readonly roundTrips: number
}

export interface LoadCounts {
  readonly sent: number
  /** messages that the broker answered, hung up on, or did neither with in time */
  readonly answered: number
  readonly closed: number
  readonly silent: number
  readonly refusedConnections: number
  /** silent sockets: opened in all, and open at once */
  readonly idleOpened: number
  readonly idleMost: number
  readonly seconds: number
  /** bytes: of the broker before, at most while loaded, and a while after */
  readonly rss: { readonly before: number; readonly most: number; readonly after: number }
  /** ms of a round trip of 64 bytes to a program in the VM and back */
  readonly quiet: Percentiles
  readonly loaded: Percentiles
  /** whether somebody who logs in after the load gets in */
  readonly servesAfter: boolean
}

interface Percentiles {
  readonly count: number
  readonly p50: number
  readonly p99: number
}

/** connections at once that send messages */
export const LOAD_WORKERS = 32
const GIVEN_BACK_MS = 20_000
const PAUSE_MS = 4
const soon = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

function percentiles(ms: number[]): Percentiles {
  const sorted = ms.toSorted((a, b) => a - b)
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
  return { count: sorted.length, p50: at(0.5), p99: at(0.99) }
}

/** A session of the owner's with a program that echoes. */
async function echoing({ url, owner, vm }: KillingPlace) {
  const api = new BrokerApi({ url, identity: owner, pins: pinsInMemory() })
  const { session } = await connectVm(api, owner, nodeHost, await api.vm(vm))
  const call = await session.open(exec, { argv: ['cat'] })
  const items = call.received()
  const roundTrip = async () => {
    const startMs = performance.now()
    await call.write(new Uint8Array(64).fill(7))
    for (let bytes = 0; bytes < 64; ) {
      const { value, done } = await items.next()
      if (done) throw new Error('the program ended')
      if (value.type === 'data') bytes += value.bytes.length
    }
    return performance.now() - startMs
  }
  return { roundTrip, close: () => session.close() }
}

export async function runLoad(options: LoadOptions): Promise<LoadCounts> {
  const { messages, idleSockets, messagesPerSecond, roundTrips } = options
  const place = await makePlace(1)
  try {
    const { roundTrip, close } = await echoing(place)
    const measure = async (goesOn: (done: number) => boolean) => {
      const ms: number[] = []
      while (goesOn(ms.length)) {
        ms.push(await roundTrip())
        await soon(PAUSE_MS)
      }
      return percentiles(ms)
    }
    await measure(done => done < 200)
    const quiet = await measure(done => done < roundTrips)
    const rss = { before: rssOf(place.broker.pid), most: 0, after: 0 }
    const measuring = setInterval(() => {
      rss.most = Math.max(rss.most, rssOf(place.broker.pid))
    }, 200)
    const { port } = new URL(place.url)
    const script = new URL('load-end.ts', import.meta.url).pathname
    const args = [script, port, place.agentPort, messages, idleSockets, messagesPerSecond, LOAD_WORKERS].map(String)
    // in life the load comes from elsewhere: here it gets the time that nobody else wants
    const load = spawn('chrt', ['--idle', '0', process.execPath, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    const said = text(load.stdout)
    const [counts, loaded] = await Promise.all([
      said,
      measure(() => load.exitCode === null && load.signalCode === null),
    ])
    await soon(GIVEN_BACK_MS)
    clearInterval(measuring)
    rss.after = rssOf(place.broker.pid)
    close()
    const servesAfter = await echoing(place).then(
      async again => {
        await again.roundTrip()
        again.close()
        return true
      },
      () => false,
    )
    return { ...JSON.parse(counts), rss, quiet, loaded, servesAfter }
  } finally {
    await place.remove()
  }
}
