/** `mortar vm`: launches, lists, shows, waits for, stops and deletes VMs. */
import type { Vm } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { BrokerInfo } from '../broker-api.ts'
import { hostMemoryWords } from '../host-memory.ts'
import { findVm, launchVm, printable, waitVm } from '../vm.ts'
import type { Context } from './context.ts'
import { facts, size, table, time } from './output.ts'
import { bringTo, eventTeller, lockDrivesOf, waitingOn, withSession } from './session.ts'
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
  return outcomeOf(goal === 'none' ? vm : await bringTo(context, vm, goal, limitMs))
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
  return outcomeOf(vm, (await broker.info()).hostMemory)
}

export const wait: Action = async (context, given) => {
  const goal = oneOf(given, 'for', ['ready', 'enrolled', 'stopped'])
  const limitMs = timeoutMs(given)
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  if (goal !== 'stopped') return outcomeOf(await bringTo(context, vm, goal, limitMs))
  const { clock } = await context.host()
  const stopping = waitVm(broker, clock, vm.id, { goal, timeoutMs: limitMs, onChange: eventTeller(context) })
  return outcomeOf(await stopped(context, vm, stopping))
}

const stopped = (context: Context, vm: Vm, stopping: Promise<Vm>) =>
  waitingOn(vm, 'stopped', context.progress.during(`waiting for ${vm.name} to stop`, stopping))

export const stop: Action = async (context, given) => {
  const limitMs = timeoutMs(given)
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  await lockDrivesOf(context, vm, given.flag('force'))
  await context.progress.during(`stopping ${vm.name}`, broker.stopVm(vm.id))
  const { clock } = await context.host()
  const waiting = waitVm(broker, clock, vm.id, { goal: 'stopped', timeoutMs: limitMs })
  return outcomeOf(await stopped(context, vm, waiting))
}

export const remove: Action = async (context, given) => {
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  await lockDrivesOf(context, vm, given.flag('force'))
  await context.progress.during(`deleting ${vm.name}`, broker.deleteVm(vm.id))
  return { json: { deleted: vm.id }, text: `deleted ${vm.name}` }
}

/** The words of a session of this moment; who compares them with the VM's console sees that nobody sits between. SPEC §5.3 */
export const verify: Action = async (context, given) => {
  const { suite } = await context.host()
  const { comparisonCode } = await import('../../protocol/channel/comparison.ts')
  const words = await withSession(context, given.operand(0), async session =>
    comparisonCode(suite, session.bindingHash),
  )
  return { json: { words }, text: words }
}

export const logs: Action = async (context, given) => {
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  const console = await broker.vmLog(vm.id)
  return { json: { vm: vm.id, console }, text: printable(console) }
}

/** `memory`: what the broker says of its host, where that is asked. */
function outcomeOf(vm: Vm, memory?: BrokerInfo['hostMemory']): Outcome {
  const pairs: [string, string][] = [
    ['name', vm.name],
    ['id', vm.id],
    ['state', vm.state],
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
    pairs.push(['certified', vm.certificate ? 'yes' : 'no'])
  }
  if (vm.drives.length > 0) pairs.push(['drives', vm.drives.join(', ')])
  if (vm.failure) pairs.push(['failure', `${vm.failure.stage}: ${vm.failure.reason}`])
  const events = vm.events.map(event => [time(event.at), event.state, event.cause])
  return {
    json: { vm, ...(memory && { hostMemory: memory }) },
    text: `${facts(pairs)}\n\n${table(['TIME', 'STATE', 'CAUSE'], events)}`,
  }
}
