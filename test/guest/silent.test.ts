/** A VM that never enrols: its owner learns how far it came. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'

describeGuest('silent VM', () => {
  let machine: Machine

  beforeAll(async () => {
    // nobody listens where agents dial
    machine = await Machine.start({ fronted: true, enrolWithinSeconds: 60 })
  })
  afterAll(() => machine?.dispose())

  test('VM that never enrols: deadline, stage and console tail are shown', async () => {
    const args = ['vm', 'create', 'lost', '--brick', machine.brickName, '--memory', '768']
    const { code, stderr } = await machine.mortar(machine.people.owner, args, { timeoutMs: 150_000 })
    expect(code).toBe(5)
    expect(stderr).toMatch(/did not enrol/)
    expect(stderr).toMatch(/agent started/)
    expect(stderr).toMatch(/mortar-agent/)
    const { vm } = await machine.must<{ vm: object }>(machine.people.owner, ['vm', 'show', 'lost'])
    expect(vm).toMatchObject({ state: 'failed', failure: { stage: 'agent started' } })
    await machine.must(machine.people.owner, ['vm', 'delete', 'lost', '--yes'])
  })
})
