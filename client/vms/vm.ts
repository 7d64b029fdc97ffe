/** The life of a VM from its owner's side: launch it with a signed ticket, wait for its states, find it by name. SPEC §2.2 */
import { launchCommitment } from '../../protocol/channel/derive.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { launchRequest, type Vm, type VmState } from '../../protocol/control/api.ts'
import { signTicket } from '../../protocol/control/ticket.ts'
import { decodeHex } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import { asMortarError, type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import type { BrokerApi } from '../broker/api.ts'
import { pick } from '../broker/pick.ts'
import { sleep } from '../host/clock.ts'
import { newUuid } from '../host/host.ts'
import type { Identity } from '../identity/identity.ts'
import { sealLaunchSecret } from './sealed-secret.ts'

/** shorter than LIMITS.ticketSeconds, so that clocks may differ by some minutes either way */
const TICKET_SECONDS = 600
/** one long poll */
const POLL_MS = 25_000
const RETRY_MS = 1_000
/** a broker that starts again */
const AWAY: readonly ErrorCode[] = ['broker-unreachable', 'connection-lost', 'going-away']
export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const SHA256 = /^[0-9a-f]{64}$/
const CONSOLE_TAIL_LINES = 20
/** colours and cursor movements (ECMA-48, 5.4) */
const ESCAPE_SEQUENCE = new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[ -/]*[@-~]`, 'g')

export interface LaunchOptions {
  readonly name: string
  /** name of the brick */
  readonly brick: string
  readonly memoryMiB: number
  readonly vcpus: number
  /** SHA-256 of the brick's image that the owner expects, hex; what the broker lists unless given */
  readonly brickSha256?: string
}

/** Signs a ticket and has the VM started. Fails with brick-unknown, brick-digest and what the broker refuses with. */
export async function launchVm(
  broker: BrokerApi,
  identity: Identity,
  host: { suite: Suite; clock: Clock },
  options: LaunchOptions,
): Promise<Vm> {
  const { name, memoryMiB, vcpus } = options
  const brick = (await broker.bricks()).find(item => item.name === options.brick)
  if (!brick) throw new MortarError('brick-unknown', options.brick)
  if (!SHA256.test(brick.sha256)) throw new MortarError('protocol-violation', `brick ${brick.name}: no SHA-256`)
  if (options.brickSha256 && options.brickSha256 !== brick.sha256) throw new MortarError('brick-digest', options.brick)
  const [vm, launch] = [newUuid(host.suite), newUuid(host.suite)]
  const secret = identity.launchSecret(vm, launch)
  try {
    const statement = {
      version: 1 as const,
      vm,
      launch,
      owner: identity.signKey,
      ownerDh: identity.keys.publicKey,
      brick: decodeHex(brick.sha256),
      broker: await broker.key(),
      commitment: launchCommitment(host.suite, secret),
      nonce: host.suite.randomBytes(16),
      expires: Math.floor(host.clock.now() / 1000) + TICKET_SECONDS,
    }
    const ticket = identity.withSigningSeed(seed => signTicket(statement, seed))
    const sealedSecret = await sealLaunchSecret(host.suite, await broker.launcherKey(), { vm, launch, secret })
    const request = { options: { name, brick: brick.name, memoryMiB, vcpus }, ticket, sealedSecret }
    const checked = launchRequest.safeParse(request)
    if (!checked.success) {
      const issue = checked.error.issues[0]
      throw new MortarError('bad-request', `${issue?.path.slice(1).join('.')}: ${issue?.message}`)
    }
    const launched = await broker.createVm(encodeCbor(request))
    const asked = { id: vm, launch, owner: broker.user, name, brick: brick.name, brickSha256: brick.sha256 } as const
    for (const [member, value] of Object.entries(asked)) {
      if (launched[member as keyof typeof asked] !== value) {
        const code = LAUNCHED_OTHERWISE[member as keyof typeof asked]
        throw new MortarError(code, `the broker launched ${name} with another ${member}`)
      }
    }
    return launched
  } finally {
    wipe(secret)
  }
}

/** What a broker that launched something else than the ticket says is told as. */
const LAUNCHED_OTHERWISE = {
  id: 'vm-mismatch',
  launch: 'ticket-invalid',
  owner: 'owner-mismatch',
  name: 'protocol-violation',
  brick: 'protocol-violation',
  brickSha256: 'brick-digest',
} as const

export interface WaitOptions {
  /** enrolled and ready need the agent connected, or a boot that waits for the owner; enrolled is also reached by ready; stopped also by destroyed */
  readonly goal: 'enrolled' | 'ready' | 'stopped'
  readonly timeoutMs: number
  /** called with the VM at first and whenever it changed */
  readonly onChange?: (vm: Vm) => void
  readonly signal?: AbortSignal
}

const REACHED: Record<WaitOptions['goal'], readonly VmState[]> = {
  enrolled: ['enrolled', 'ready'],
  ready: ['ready'],
  stopped: ['stopped', 'destroyed'],
}
const HOPELESS: Record<WaitOptions['goal'], readonly VmState[]> = {
  enrolled: ['failed', 'stopping', 'stopped', 'destroyed'],
  ready: ['failed', 'stopping', 'stopped', 'destroyed'],
  stopped: ['failed'],
}

/** An agent that enrolled may be away for a moment, as when the broker restarts: nobody can use the VM until it is back. */
function hasReached(vm: Vm, goal: WaitOptions['goal']): boolean {
  return REACHED[goal].includes(vm.state) && (goal === 'stopped' || vm.agent?.connected === true || isWaiting(vm))
}

/** Boots that the owner has to decide about, and none that sessions go to. */
export const isWaiting = (vm: Vm): boolean =>
  vm.agent?.connected !== true && vm.waiting.some(({ connected }) => connected)

/**
 * Waits until the VM reaches the goal; a broker that restarts meanwhile does not end the wait. Fails with vm-silent when
 * the VM failed to enrol, vm-state when it went elsewhere (both with stage and console tail), timeout.
 */
export async function waitVm(broker: BrokerApi, clock: Clock, id: string, options: WaitOptions): Promise<Vm> {
  const { goal, signal } = options
  const deadline = clock.now() + options.timeoutMs
  let vm = await broker.vm(id)
  for (;;) {
    options.onChange?.(vm)
    if (hasReached(vm, goal)) return vm
    if (HOPELESS[goal].includes(vm.state)) throw failureOf(vm, goal)
    const { revision } = vm
    do {
      signal?.throwIfAborted()
      const leftMs = deadline - clock.now()
      if (leftMs <= 0) {
        const silent = REACHED[goal].includes(vm.state) ? ', its agent not connected' : `, not ${goal}`
        throw new MortarError('timeout', `${vm.name} is ${vm.state} after ${options.timeoutMs / 1000} s${silent}`)
      }
      vm = await nextOf(broker, clock, vm, Math.min(POLL_MS, leftMs), signal)
    } while (vm.revision === revision)
  }
}

/** One long poll; while the broker cannot be reached the VM stays as it was known. Never returns twice within a moment. */
async function nextOf(broker: BrokerApi, clock: Clock, vm: Vm, timeoutMs: number, signal?: AbortSignal): Promise<Vm> {
  const started = clock.now()
  let next = vm
  try {
    next = await broker.vmChange(vm.id, vm.revision, Math.max(1, Math.round(timeoutMs)), signal)
  } catch (thrown) {
    const { code } = asMortarError(thrown)
    if (!AWAY.includes(code)) throw thrown
  }
  // a clock that was set back meanwhile must not make this a long sleep
  const waitedMs = Math.max(0, clock.now() - started)
  if (next.revision === vm.revision && waitedMs < RETRY_MS) await sleep(Math.min(RETRY_MS, timeoutMs) - waitedMs)
  return next
}

function failureOf(vm: Vm, goal: string): MortarError {
  if (!vm.failure) return new MortarError('vm-state', `${vm.name} is ${vm.state} and will not become ${goal}`)
  const { stage, reason, consoleTail } = vm.failure
  const tail = printable(consoleTail).trimEnd().split('\n').slice(-CONSOLE_TAIL_LINES).join('\n')
  const detail = `${vm.name} failed at stage ${stage}: ${reason}${tail === '' ? '' : `\n${tail}`}`
  // the broker fails a VM at this stage when its deadline passes without an enrolment
  return new MortarError(vm.agent === null ? 'vm-silent' : 'vm-state', detail)
}

/** Text from elsewhere without what could steer the reader's terminal or show it in another order (UAX #9). */
export function printable(text: string): string {
  return text
    .replaceAll('\r\n', '\n')
    .replace(ESCAPE_SEQUENCE, '')
    .replace(/[^\P{Cc}\n\t]|\p{Bidi_Control}/gu, '')
}

/** The VM of that name or id, the user's own first. Fails with not-found, or bad-request when a name is not unique. */
export async function findVm(broker: BrokerApi, nameOrId: string): Promise<Vm> {
  if (UUID.test(nameOrId)) return broker.vm(nameOrId)
  const live = (await broker.vms()).filter(vm => vm.state !== 'destroyed')
  return pick('VM', live, nameOrId, broker.user)
}
