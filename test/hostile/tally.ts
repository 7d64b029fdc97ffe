/** Counting what was noticed, and playing an attack as often as wanted. */
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import type { AttackRow } from './attacks.ts'
import { Random } from './random.ts'
import { type End, honest, type Play, play } from './stage.ts'

export interface Tally {
  readonly attack: string
  tried: number
  detected: number
  bytesAfter: number
  /** seeds of the plays that were not detected or leaked */
  readonly failures: string[]
}

const MOST_FAILURES_TOLD = 5

export const newTally = (attack: string): Tally => ({ attack, tried: 0, detected: 0, bytesAfter: 0, failures: [] })

export function count(tally: Tally, detected: boolean, bytesAfter: number, seed: string): void {
  tally.tried++
  if (detected) tally.detected++
  tally.bytesAfter += bytesAfter
  if ((!detected || bytesAfter > 0) && tally.failures.length < MOST_FAILURES_TOLD) tally.failures.push(seed)
}

export const holds = (tally: Tally): boolean =>
  tally.tried > 0 && tally.detected === tally.tried && tally.bytesAfter === 0

/** An attack is noticed when no session came about, or when its victim's ended with an error. */
export function noticed(result: Play, victim: End): boolean {
  return !result.opened || result.outcome[victim] !== undefined
}

/** in turn: agents have the native one, clients in a browser the other */
const SUITES: readonly Suite[] = [nativeSuite, nobleSuite]

/** Plays an attack `times` times, on each back end in turn; play number i can be made again from `seed` and i. */
export async function runAttack(row: AttackRow, times: number, seed: string, broken = false): Promise<Tally> {
  const tally = newTally(row.name)
  for (let i = 0; tally.tried < times && i < 2 * times; i++) {
    const name = `${seed}/${row.name}/${i}`
    const random = new Random(name)
    const suite = SUITES[i % SUITES.length] as Suite
    const recorded = await play({ random: new Random(`${name}/recorded`), suite, broken }, honest)
    const { options, attack } = row.scene(random, recorded)
    const result = await play({ random, suite, broken, ...options }, attack)
    if (result.reached && attack.fault) count(tally, noticed(result, attack.fault.victim), result.bytesAfterFault, name)
  }
  return tally
}
