/** A relay that is hostile, in the short form of `npm run hostile`; and the proof that the harness would see it succeed. */
import { describe, expect, test } from 'vitest'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { ATTACKS } from '../hostile/attacks.ts'
import { runFlips } from '../hostile/flips.ts'
import { Random } from '../hostile/random.ts'
import { runChannelRecords, runRecords } from '../hostile/records.ts'
import { honest, play } from '../hostile/stage.ts'
import { holds, noticed, runAttack } from '../hostile/tally.ts'

const SEED = process.env.HOSTILE_SEED ?? `${Date.now()}`
const PLAYS = 100
/** so many that chance hides an attack from none of them: a packet sent back is noticed in two plays of three */
const CONTROLS = 48
console.info(`seed of the hostile relay: ${SEED}`)

test('a relay that does nothing lets the whole conversation through, which ends in order', async () => {
  for (const suite of [nativeSuite, nobleSuite]) {
    const result = await play({ random: new Random(SEED), suite }, honest)
    expect(result).toMatchObject({ opened: true, complete: true, outcome: { client: undefined, agent: undefined } })
    expect(noticed(result, 'client') || noticed(result, 'agent')).toBe(false)
  }
})

test('every single-bit flip of every handshake message is refused, and nothing is said after it', async () => {
  for (const tally of await runFlips({ seed: SEED })) {
    console.info(`${tally.attack}: ${tally.detected} of ${tally.tried}`)
    expect(tally.tried).toBeGreaterThan(300)
    expect(tally).toSatisfy(holds)
  }
}, 120_000)

test('noble refuses flips in every handshake message too', async () => {
  for (const tally of await runFlips({ seed: SEED, suite: nobleSuite, stride: 41 })) {
    expect(tally.tried).toBeGreaterThan(5)
    expect(tally).toSatisfy(holds)
  }
})

test('of 100,000 mutated transport records none opens', () => {
  expect(runRecords(nativeSuite, 100_000, SEED)).toMatchObject({ tried: 100_000, detected: 100_000, bytesAfter: 0 })
  expect(runRecords(nobleSuite, 5_000, SEED)).toMatchObject({ tried: 5_000, detected: 5_000, bytesAfter: 0 })
})

test('of 600 mutated records at a channel none opens, nor anything behind it', async () => {
  const all = { tried: 500, detected: 500, bytesAfter: 0 }
  expect(await runChannelRecords(nativeSuite, 500, SEED)).toMatchObject(all)
  expect(await runChannelRecords(nobleSuite, 100, SEED)).toMatchObject({ tried: 100, detected: 100, bytesAfter: 0 })
})

describe('all plays are noticed and deliver no byte after the fault', () => {
  test.each(ATTACKS.map(row => [row.name, row] as const))('%s', async (_name, row) => {
    const tally = await runAttack(row, PLAYS, SEED)
    expect(tally).toMatchObject({ tried: PLAYS, detected: PLAYS, bytesAfter: 0 })
  })
})

describe('on a channel that does not encrypt the harness reports what got through', () => {
  const controls = ATTACKS.filter(row => row.noControl === undefined)
  test.each(controls.map(row => [row.name, row] as const))('%s', async (_name, row) => {
    const tally = await runAttack(row, CONTROLS, SEED, true)
    expect(tally.tried).toBe(CONTROLS)
    expect(tally).not.toSatisfy(holds)
  })

  test('flips of handshake messages', async () => {
    const tallies = await runFlips({ seed: SEED, broken: true, stride: 31 })
    for (const tally of tallies) expect(tally).not.toSatisfy(holds)
  })

  test('mutated records', () => {
    expect(runRecords(nativeSuite, 500, SEED, true)).not.toSatisfy(holds)
  })

  test('mutated records at a channel', async () => {
    expect(await runChannelRecords(nativeSuite, 50, SEED, true)).not.toSatisfy(holds)
  })
})
