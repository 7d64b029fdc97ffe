/** Somebody poses as a VM under keys that were stolen: at a real broker, against a VM that reboots, and its owner's command. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Vm } from '../../protocol/control/api.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { type Hands, handsOf } from '../support/person.ts'
import { seedOfDisk, Thief, wordsOnConsole } from '../support/thief.ts'
import { attack } from './attack.ts'

const STATE = '/var/lib/mortar-agent/boot'
/** on the disk of the VM, and nowhere else: who says it is the VM */
const WORD = randomUUID()

describeGuest('boots', () => {
  let machine: Machine
  let hands: Hands
  let vm: Vm

  beforeAll(async () => {
    // on the broker's own network nobody but a VM reaches the place where agents are taken
    machine = await Machine.start({ network: 'user' })
    await machine.launch(owner(), 'lab')
    await machine.inVm(owner(), 'lab', ['sh', '-c', `echo ${WORD} >word && sync`])
    hands = await handsOf(machine, owner())
    vm = await shown()
  })
  afterAll(() => machine?.dispose())

  const owner = () => machine.people.owner
  const shown = async () => (await machine.must<{ vm: Vm }>(owner(), ['vm', 'show', 'lab'])).vm
  const alarms = async () => (await shown()).events.filter(({ cause }) => cause.startsWith('ALARM')).length
  const until = async (what: string, holds: (vm: Vm) => boolean) => {
    for (let tries = 0; tries < 240; tries++) {
      if (holds(await shown())) return
      await delay(1_000)
    }
    throw new Error(`${what}: ${JSON.stringify(await shown())}`)
  }
  /** Who answers the owner: what a program says of the word, or the code of the refusal. */
  const met = async () => {
    const { code, stdout, stderr } = await machine.mortar(owner(), ['--json', 'exec', 'lab', '--', 'cat', 'word'])
    if (code === 0) return JSON.parse(stdout).stdout === `${WORD}\n` ? 'the VM' : stdout
    return JSON.parse(stderr.trim().split('\n').at(-1) ?? '{}').error?.code
  }
  const stealSeed = async () =>
    seedOfDisk(await machine.inVm(owner(), 'lab', ['base64', '-w0', STATE], { user: 'root' }))
  /** The owner looks at the console and chooses. */
  const choose = async () => {
    const { console } = await machine.must<{ console: string }>(owner(), ['vm', 'logs', 'lab'])
    await machine.must(owner(), ['vm', 'confirm', 'lab', '--boot', wordsOnConsole(console)])
  }
  const reboot = async () => {
    const before = (await shown()).agent?.agentSign
    await machine.mortar(owner(), ['exec', 'lab', '--user', 'root', '--', 'systemctl', 'reboot'])
    await until('the reboot', ({ agent, state }) => agent?.connected === false || state === 'booting')
    return before
  }

  attack('strangers who know no key of a VM change nothing at it, from whichever address', { tries: 200 }, async n => {
    const before = n % 50 === 0 ? await shown() : undefined
    const { thief, told } = await Thief.pose(hands, vm, {
      agents: machine.agents,
      seed: new Uint8Array(32).fill(n),
      from: `127.0.0.${2 + (n % 50)}`,
    })
    expect(told).toBe('refused')
    thief.leave()
    if (!before) return
    expect(await shown()).toEqual(before)
    expect(await met()).toBe('the VM')
  })

  attack('a stolen launch secret gets nobody a session with the owner', { tries: 3 }, async number => {
    const { thief } = await Thief.pose(hands, vm, { agents: machine.agents, from: '127.0.0.9' })
    // the first of them is told to the owner, who decides; after that whoever has the secret only waits
    expect(await met()).toBe(number === 0 ? 'boot-contested' : 'the VM')
    expect(thief.met).toBe(0)
    if (number === 0) await choose()
    expect(await met()).toBe('the VM')
    expect(thief.met).toBe(0)
    thief.leave()
  })

  attack(
    'a next-boot key that was copied from the disk gets nobody a session while the boot runs',
    { tries: 3 },
    async () => {
      const { thief } = await Thief.pose(hands, vm, { agents: machine.agents, seed: await stealSeed() })
      await until('the protest', ({ waiting }) => waiting.some(({ protest }) => protest !== null))
      expect(await met()).toBe('boot-contested')
      await choose()
      expect(await met()).toBe('the VM')
      expect(thief.met).toBe(0)
      thief.leave()
    },
  )

  attack(
    'a thief who enrols before the VM that reboots gets no session once the VM is back',
    { tries: 1 },
    async () => {
      const seed = await stealSeed()
      await reboot()
      const { thief, told } = await Thief.pose(hands, vm, { agents: machine.agents, seed })
      expect(told).toBe('enrolled')
      const again = await Thief.pose(hands, vm, { agents: machine.agents })
      await until('the VM', ({ waiting }) => waiting.some(({ connected, version }) => connected && version !== '0.0.0'))
      expect(await met()).toBe('boot-contested')
      await choose()
      expect(await met()).toBe('the VM')
      expect([thief.met, again.thief.met]).toEqual([0, 0])
      for (const each of [thief, again.thief]) each.leave()
      expect(await alarms()).toBeGreaterThan(0)
    },
  )

  test('the same thief is met while the VM is away, which nobody can know better', async () => {
    const seed = await stealSeed()
    await reboot()
    const { thief } = await Thief.pose(hands, vm, { agents: machine.agents, seed })
    expect(await met()).not.toBe('the VM')
    expect(thief.met).toBe(1)
    thief.leave()
  })
})
