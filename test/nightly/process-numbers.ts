/** A8, A9 and A11: what is measured at real processes, and at the cipher of real sessions. */
import { LIMITS } from '../../protocol/core/limits.ts'
import { runKills } from './kills.ts'
import { LOAD_WORKERS, runLoad } from './load.ts'
import { runNonces } from './nonces.ts'
import { inDigits, inMiB, type Outcome } from './outcome.ts'

const MESSAGES = 1_000_000
const IDLE_SOCKETS = 2_000
/** each of the two listeners keeps so many of strangers, and for one more the oldest goes (SPEC §3): 2,000 are never open at once, and the senders are strangers too */
const IDLE_KEPT = 2 * LIMITS.connectionsUnknown - LOAD_WORKERS
const MESSAGES_PER_SECOND = 1_500
const ROUND_TRIPS = 3_000
const MOST_GROWTH_BYTES = 64 * 2 ** 20
const MOST_SLOWDOWN = 2
const KILLS = 1_000
const MOST_RETURN_SECONDS = 5
const RECORDS = 1_000_000

const secondsOf = async <T>(run: () => Promise<T>): Promise<[T, number]> => {
  const startMs = performance.now()
  const result = await run()
  return [result, (performance.now() - startMs) / 1_000]
}

export async function runLoadNumber(scale: number): Promise<Outcome> {
  const [counts, seconds] = await secondsOf(() =>
    runLoad({
      messages: MESSAGES * scale,
      idleSockets: IDLE_SOCKETS,
      messagesPerSecond: MESSAGES_PER_SECOND,
      roundTrips: ROUND_TRIPS,
    }),
  )
  const { answered, closed, silent, idleOpened, idleMost, rss, quiet, loaded, servesAfter } = counts
  // what got neither an answer nor an end was not dealt with
  const dealtWith = answered + closed
  const growth = rss.most - rss.before
  const slowdown = loaded.p99 / quiet.p99
  const rate = Math.round(dealtWith / counts.seconds)
  const isWhole = dealtWith >= MESSAGES * scale && idleOpened >= IDLE_SOCKETS && idleMost >= IDLE_KEPT
  return {
    id: 'A8',
    what: 'messages that prove nothing, at a real broker',
    asked: `1,000,000 messages answered or hung up on, 2,000 idle sockets of which it keeps ${inDigits(IDLE_KEPT)}, growth < 64 MiB, p99 < 2×, stays up`,
    done: `${inDigits(answered)} answered, ${inDigits(closed)} hung up on, ${inDigits(idleOpened)} idle sockets, ${inDigits(idleMost)} at once`,
    held: isWhole && growth < MOST_GROWTH_BYTES && slowdown < MOST_SLOWDOWN && servesAfter,
    seconds,
    note:
      `${inDigits(rate)} a second, ${inDigits(silent)} silent; memory ${inMiB(rss.before)} before, ${inMiB(rss.most)} at most, ${inMiB(rss.after)} 20 s after; ` +
      `round trip p50 ${quiet.p50.toFixed(1)} and ${loaded.p50.toFixed(1)} ms, p99 ${quiet.p99.toFixed(1)} and ${loaded.p99.toFixed(1)} ms ` +
      `(${slowdown.toFixed(1)}×)${servesAfter ? '' : '; it served nobody afterwards'}`,
  }
}

export async function runKillNumber(seed: string, scale: number): Promise<Outcome> {
  const [counts, seconds] = await secondsOf(() => runKills(KILLS * scale, seed))
  const { kills, whole, told, forgotten, neverBegan, abandoned, wrong } = counts
  const returns = counts.returnsMs.toSorted((a, b) => a - b)
  const last = (returns.at(-1) ?? 0) / 1_000
  const middle = (returns[returns.length >> 1] ?? 0) / 1_000
  return {
    id: 'A9',
    what: 'kill -9 of clients, broker, agent and runners at random',
    asked: '1,000, nothing lost, repeated or told wrongly, no process left, all goes on within 5 s (median)',
    done: `${inDigits(kills.client)} clients, ${inDigits(kills.broker)} brokers, ${inDigits(kills.agent)} agents, ${inDigits(kills.runner)} runners`,
    held:
      wrong.length === 0 &&
      middle <= MOST_RETURN_SECONDS &&
      Object.values(kills).reduce((sum, count) => sum + count) >= KILLS * scale,
    seconds,
    note:
      `${inDigits(whole)} programs whole, ${inDigits(abandoned)} lost their client, ${inDigits(told)} ended with their runner (runner-lost), ${inDigits(forgotten)} with runner and agent (call-unknown) and ${inDigits(neverBegan)} never began, of which their clients were told; ` +
      `all went on ${middle.toFixed(1)} s after a round's last kill, without the programs' own time (median of ${returns.length} rounds; ${last.toFixed(1)} s at most)` +
      wrong
        .slice(0, 3)
        .map(text => `; ${text.slice(0, 300)}`)
        .join(''),
  }
}

export async function runNonceNumber(scale: number): Promise<Outcome> {
  const [counts, seconds] = await secondsOf(() => runNonces(RECORDS * scale))
  return {
    id: 'A11',
    what: 'key and nonce, concurrent senders, rekeys',
    asked: '1,000,000 records, 0 repeated',
    done: `${inDigits(counts.records)} records`,
    held: counts.repeated === 0 && counts.records >= RECORDS * scale,
    seconds,
    note: `${inDigits(counts.keys)} keys, ${counts.repeated} repeated`,
  }
}
