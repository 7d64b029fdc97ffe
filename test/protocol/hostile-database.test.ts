/** Whoever holds all that a broker stores, in the short form of `npm run hostile`; and the proof that the harness would see it succeed. */
import { describe, expect, test } from 'vitest'
import { DATABASE_ATTACKS, runDatabaseAttack } from '../hostile/database.ts'
import { agentMeets, clientMeets, trusts } from '../hostile/database-ends.ts'
import { makeWorld } from '../hostile/database-world.ts'
import { Random } from '../hostile/random.ts'
import { holds } from '../hostile/tally.ts'

const SEED = process.env.HOSTILE_SEED ?? `${Date.now()}`
const PLAYS = 50
const CONTROLS = 48
console.info(`seed of the broker's database: ${SEED}`)

test('the true owner and grantee get in, and the true agent is found by its certificate', async () => {
  const world = makeWorld(new Random(SEED))
  const known = { kind: 'known' } as const
  const owner = await agentMeets(world, { keys: world.owner.keys, contact: known })
  const grantee = await agentMeets(world, { keys: world.grantee.keys, contact: known, grant: world.grant })
  expect([owner, grantee]).toEqual([
    { refused: false, bytes: 64 },
    { refused: false, bytes: 64 },
  ])
  expect(trusts(world, world.vm())).toEqual(world.agent)
  // an agent of the other VM, which is the attacker's own, is met where it is meant
  const sign = world.agent.sign
  const keys = world.otherAgentKeys
  const met = await clientMeets(world, { agent: { dh: keys.publicKey, sign }, contact: known }, { keys, sign })
  expect(met.refused).toBe(false)
  world.remove()
})

describe('who holds the broker’s database is refused by client and agent, and gets no byte', () => {
  test.each(DATABASE_ATTACKS.map(row => [row.name, row] as const))('%s', async (_name, row) => {
    const tally = await runDatabaseAttack(row, PLAYS, SEED)
    expect(tally).toMatchObject({ tried: PLAYS, detected: PLAYS, bytesAfter: 0 })
  })
})

describe('on a channel that does not encrypt the harness reports what the database gave', () => {
  const controls = DATABASE_ATTACKS.filter(row => row.noControl === undefined)
  test.each(controls.map(row => [row.name, row] as const))('%s', async (_name, row) => {
    const tally = await runDatabaseAttack(row, CONTROLS, SEED, true)
    expect(tally.tried).toBe(CONTROLS)
    expect(tally).not.toSatisfy(holds)
  })
})
