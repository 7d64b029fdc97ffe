/** `mortar vm`: launches, lists, shows, waits for, stops and deletes VMs. */
import type { Vm } from '../../protocol/control/api.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { BrokerApi, BrokerInfo } from '../broker/api.ts'
import { hostMemoryWords } from '../vms/host-memory.ts'
import { findVm, launchVm, printable, waitVm } from '../vms/vm.ts'
import { confirm } from './confirm.ts'
import type { Context } from './context.ts'
import { type Locked, lockDrivesOf } from './lock-drives.ts'
import { facts, size, table, time } from './output.ts'
import { bringTo, eventTeller, waitingOn, withSessionOf } from './session.ts'
import type { Action, Arguments, Outcome } from './subcommand.ts'

const MOST_SECONDS = 86_400
const MIB = 1_048_576

const timeoutMs = (given: Arguments) => 1000 * given.number('timeout', 1, MOST_SECONDS)

/** Reads an option that names a state. Fails with usage. */
function oneOf<const T extends string>(given: Arguments, name: string, allowed: readonly T[]): T {
  const value = given.text(name)
  const found = allowed.find(item => item === value)
  if (!found) throw new MortarError('usage', `--${name} is one of ${allowed.join(', ')}, not "${value}"`)
  return found
}

export const create: Action = async (context, given) => {
  const goal = oneOf(given, 'wait', ['ready', 'enrolled', 'none'])
  const [memoryMiB, vcpus] = [given.number('memory', 256, MIB), given.number('cpus', 1, 256)]
  const limitMs = timeoutMs(given)
  const [broker, identity, host] = [await context.broker(), await context.identity(), await context.host()]
  const options = { name: given.operand(0), brick: given.text('brick') ?? '', memoryMiB, vcpus }
  const launching = launchVm(broker, identity, host, options)
  const vm = await context.progress.during(`launching ${options.name}`, launching)
  if (goal === 'none') return outcomeOf(context, vm)
  const brought = await bringTo(context, vm, goal, limitMs)
  return outcomeOf(context, brought.vm, { word: brought.word })
}

export const list: Action = async context => {
  const broker = await context.broker()
  const vms = await broker.vms()
  const rows = vms.map(vm => [
    vm.name,
    vm.state,
    vm.brick,
    size(vm.memoryMiB * MIB),
    vm.agent?.addresses[0] ?? '',
    time(vm.createdAt),
    vm.owner === broker.user ? 'you' : vm.owner,
    vm.id,
  ])
  return { json: { vms }, text: table(['NAME', 'STATE', 'BRICK', 'MEMORY', 'ADDRESS', 'CREATED', 'OWNER', 'ID'], rows) }
}

export const show: Action = async (context, given) => {
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  return outcomeOf(context, vm, { memory: (await broker.info()).hostMemory })
}

export const wait: Action = async (context, given) => {
  const goal = oneOf(given, 'for', ['ready', 'enrolled', 'stopped'])
  const limitMs = timeoutMs(given)
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  if (goal !== 'stopped') {
    const brought = await bringTo(context, vm, goal, limitMs)
    return outcomeOf(context, brought.vm, { word: brought.word })
  }
  const { clock } = await context.host()
  const stopping = waitVm(broker, clock, vm.id, { goal, timeoutMs: limitMs, onChange: eventTeller(context) })
  return outcomeOf(context, await stopped(context, vm, stopping))
}

const stopped = (context: Context, vm: Vm, stopping: Promise<Vm>) =>
  waitingOn(vm, 'stopped', context.progress.during(`waiting for ${vm.name} to stop`, stopping))

export const stop: Action = async (context, given) => {
  const limitMs = timeoutMs(given)
  const broker = await context.broker()
  const vm = await meantVm(broker, given.operand(0))
  await confirm(context, given, `Stop ${vm.name} (${vm.id})? Its programs end, and it cannot be started again yet.`)
  const drives = await lockDrivesOf(context, vm, { before: 'stop', force: given.flag('force') })
  await context.progress.during(`stopping ${vm.name}`, broker.stopVm(vm.id))
  const { clock } = await context.host()
  const waiting = waitVm(broker, clock, vm.id, { goal: 'stopped', timeoutMs: limitMs })
  return outcomeOf(context, await stopped(context, vm, waiting), { word: 'broker', drives })
}

export const remove: Action = async (context, given) => {
  const broker = await context.broker()
  const vm = await meantVm(broker, given.operand(0))
  await confirm(
    context,
    given,
    `Delete ${vm.name} (${vm.id})? The broker is told to destroy its system disk, for good.`,
  )
  const drives = await lockDrivesOf(context, vm, { before: 'end', force: given.flag('force') })
  await context.progress.during(`deleting ${vm.name}`, broker.deleteVm(vm.id))
  const text = `The broker says that it deleted ${vm.name}. ${drives.says}.`
  return { json: { deleted: vm.id, word: 'broker', drives: jsonOf(drives) }, text }
}

/** What is to be lost is named without doubt: another's VM by its id. Fails with bad-request. */
async function meantVm(broker: BrokerApi, nameOrId: string): Promise<Vm> {
  const vm = await findVm(broker, nameOrId)
  if (vm.owner === broker.user || nameOrId === vm.id) return vm
  throw new MortarError('bad-request', `${vm.name} belongs to ${vm.owner}; if you mean it, give its id: ${vm.id}`)
}

const jsonOf = ({ word, locked }: Locked) => ({ word, locked })

/** the last two open no session */
const PROOFS = {
  certified: 'certificate',
  succeeded: 'boot before',
  first: 'first contact',
  unproven: 'none',
  contested: 'none',
} as const

/** what the owner is told that the VM did */
const PROVED: Readonly<Record<(typeof PROOFS)[keyof typeof PROOFS], (boot: number | undefined) => string>> = {
  certificate: boot => `proved the key that you certified for its boot ${boot}`,
  'boot before': () =>
    'proved by the key that the boot before left that it is the VM you knew, and has your certificate now',
  'first contact': () =>
    'proved at first contact that it was given what your launch sent, and has your certificate now',
  none: () => 'proved nothing',
}

/**
 * What the VM proves, and the words of a session of this moment. A screen of the VM that the broker does not serve may show the same
 * words; one that the broker serves can show any. SPEC §5.3
 */
export const verify: Action = async (context, given) => {
  const { suite } = await context.host()
  const { comparisonCode } = await import('../../protocol/channel/comparison.ts')
  const identity = await context.identity()
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  const mine = vm.owner === broker.user
  const { standingOf } = await import('../sessions/connect.ts')
  // a grantee's session opens to the boot that the owner has certified, and to no other
  const proof = mine ? PROOFS[standingOf(identity, suite, vm).kind] : PROOFS.certified
  const wordsOf = async (session: ClientSession) => comparisonCode(suite, session.bindingHash)
  const words = await withSessionOf(context, vm, wordsOf, { whose: 'granted too' })
  const proved = mine
    ? `${vm.name} ${PROVED[proof](vm.agent?.generation)}`
    : `${vm.name} proved the key that its owner, whom the broker calls ${vm.owner}, certified for its boot ${vm.agent?.generation}`
  const text = [
    `${proved}. Whoever kept a copy of what the launch sent could prove the same at first contact.`,
    '',
    `words of this session: ${words}`,
    '',
    'The VM writes the same words to its console. They show that nobody sits between, if you read them where the broker cannot put',
    'others: on the host itself, from whom you trust there. A console that comes by mortar vm logs or by the console page is',
    'what the broker shows, and proves nothing against the broker.',
  ]
  return { json: { words, proof, generation: vm.agent?.generation ?? null }, text: text.join('\n') }
}

export const logs: Action = async (context, given) => {
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  const console = await broker.vmLog(vm.id)
  return { json: { vm: vm.id, console }, text: printable(console) }
}

/** Whether this boot is the one that the owner certified, which only the owner can judge. */
async function certifiedText(context: Context, vm: Vm): Promise<string> {
  if (vm.owner !== (await context.broker()).user) return vm.certificate ? 'by its owner' : 'no'
  const { standingOf } = await import('../sessions/connect.ts')
  try {
    return CERTIFIED[standingOf(await context.identity(), (await context.host()).suite, vm).kind]
  } catch (thrown) {
    return `no: ${asMortarError(thrown).message}`
  }
}

const CERTIFIED = {
  certified: 'yes',
  succeeded: 'not yet: proven by the boot before, certified when you connect',
  first: 'not yet: proven when you connect',
  unproven: 'no: this boot proves nothing; you have to decide',
  contested: 'NO: more than one boot claims to be this VM; you have to decide',
} as const

interface Told {
  /** who says that it is in this state: the broker, unless the VM proved its key just now */
  readonly word?: 'vm' | 'broker'
  readonly drives?: Locked
  /** what the broker says of the memory of its VMs, where that is asked */
  readonly memory?: BrokerInfo['hostMemory']
}

async function outcomeOf(context: Context, vm: Vm, { word = 'broker', drives, memory }: Told = {}): Promise<Outcome> {
  const pairs: [string, string][] = [
    ['name', vm.name],
    ['id', vm.id],
    ['state', `${vm.state}, ${word === 'vm' ? 'and it proved its key just now' : 'says the broker'}`],
    ['owner', vm.owner],
    ['brick', `${vm.brick} (SHA-256 ${vm.brickSha256.slice(0, 16)}…)`],
    ['size', `${vm.vcpus} CPU, ${size(vm.memoryMiB * MIB)}`],
    ['created', time(vm.createdAt)],
  ]
  if (memory) pairs.push(['memory', `${hostMemoryWords(memory)} (the broker says)`])
  if (vm.agent) {
    pairs.push(['addresses', vm.agent.addresses.join(', ')])
    pairs.push([
      'agent',
      `${vm.agent.version}, boot ${vm.agent.generation}${vm.agent.connected ? '' : ', not connected'}`,
    ])
    pairs.push(['certified', await certifiedText(context, vm)])
  }
  for (const { connected, enrolledAt } of vm.waiting) {
    pairs.push([
      'waiting',
      `a boot since ${time(enrolledAt)}${connected ? '' : ', not connected'}: mortar vm confirm ${vm.name}`,
    ])
  }
  if (vm.drives.length > 0) pairs.push(['drives', vm.drives.join(', ')])
  if (vm.failure) pairs.push(['failure', `${vm.failure.stage}: ${vm.failure.reason}`])
  const events = vm.events.map(event => [time(event.at), event.state, event.cause])
  const text = `${facts(pairs)}\n\n${table(['TIME', 'STATE', 'CAUSE'], events)}`
  const json = { vm, word, ...(memory && { hostMemory: memory }) }
  if (!drives) return { json, text }
  return { json: { ...json, drives: jsonOf(drives) }, text: `${drives.says}.\n\n${text}` }
}
