/** What passes the broker while a session runs: nothing that was said in it. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { openTap, type Tap } from '../support/tap.ts'

describeGuest('secrecy', () => {
  let agentTap: Tap
  let clientTap: Tap
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start({ fronted: true })
    agentTap = await openTap(machine.front)
    clientTap = await openTap()
    agentTap.recording = clientTap.recording = true
    agentTap.target = Number(new URL(machine.agents).port)
    clientTap.target = Number(new URL(machine.url).port)
    await machine.launch(machine.people.owner, 'lab')
  })
  afterAll(async () => {
    await machine?.dispose()
    await agentTap?.close()
    await clientTap?.close()
  })

  test("the words of a session are the same at the client and on the VM's console", async () => {
    const { owner } = machine.people
    const { words } = await machine.must<{ words: string }>(owner, ['vm', 'verify', 'lab'])
    const log = async () => (await machine.must<{ console: string }>(owner, ['vm', 'logs', 'lab'])).console
    await expect.poll(log, { timeout: 60_000, interval: 1_000 }).toContain(`"words":"${words}"`)
  })

  test("the joiner's capture holds none of the plaintext of a session", async () => {
    const { owner } = machine.people
    const [inArgument, inInput, inError] = [mark(), mark(), mark()]
    const script = `echo ${inArgument}; cat; echo ${inError} >&2`
    const { code, stdout, stderr } = await machine.mortar(owner, ['exec', 'lab', '--', 'sh', '-c', script], {
      env: { MORTAR_BROKER: `http://127.0.0.1:${clientTap.port}` },
      input: inInput,
    })
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${inArgument}\n${inInput}` })
    // a line of progress may stand before it
    expect(stderr.endsWith(`${inError}\n`)).toBe(true)
    for (const tap of [agentTap, clientTap]) {
      const capture = Buffer.concat(tap.recorded)
      for (const secret of [inArgument, inInput, inError]) expect(capture.includes(secret)).toBe(false)
    }
    // the capture does hold what is said to the broker in the clear, so it would hold the rest
    expect(Buffer.concat(clientTap.recorded).includes('"kind":"channel"')).toBe(true)
    expect(Buffer.concat(agentTap.recorded).includes('"type":"offer"')).toBe(true)
    expect(Buffer.concat(agentTap.recorded).includes('GET /v1/join')).toBe(true)
    expect(Buffer.concat(agentTap.recorded).length).toBeGreaterThan(1000)
  })
})

const mark = () => `mark-${randomBytes(16).toString('hex')}`
