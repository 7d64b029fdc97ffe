/** Sessions for subcommands: finds the VM, connects, and closes when the work is done; brings a VM to `ready`. */
import type { Vm } from '../../protocol/control/api.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { asMortarError, type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { grantsOf } from '../grants/read-grants.ts'
import { sleep } from '../host/clock.ts'
import { connectGrantedVm, connectVm } from '../sessions/connect.ts'
import { openLasting } from '../sessions/lasting-session.ts'
import { findVm, isWaiting, waitVm } from '../vms/vm.ts'
import { AdvisedError } from './advice.ts'
import type { Context } from './context.ts'

/** ms from first contact to the agent's report that the VM is ready */
const READY_MS = 30_000
/** ms between two tries to enter a VM that is on its way, while there is time */
const RETRY_MS = 2_000
/** what keeps a VM on its way from being entered for a moment: it or its broker is away */
const AWAY: readonly ErrorCode[] = ['vm-unreachable', 'broker-unreachable', 'connection-lost', 'going-away', 'timeout']
/** ms in which an agent that lost its broker is back, if it is alive */
const RETURN_MS = 15_000

/** Whose VM a session may be with: one's own, or another's too, by a grant. Keys of drives go to one's own only. */
type Whose = 'own' | 'granted too'

interface SessionUse {
  /** own unless given */
  readonly whose?: Whose
  /** the socket broke while something runs; it connects again meanwhile */
  onLost?(): void
  onBack?(): void
}

/** Runs `use` in a session with the VM of that name or id. */
export async function withSession<T>(
  context: Context,
  nameOrId: string,
  use: (session: ClientSession, vm: Vm) => Promise<T>,
  how: SessionUse = {},
): Promise<T> {
  const vm = await findVm(await context.broker(), nameOrId)
  return withSessionOf(context, vm, session => use(session, vm), how)
}

/** Runs `use` in a session with a VM. */
export async function withSessionOf<T>(
  context: Context,
  vm: Vm,
  use: (session: ClientSession) => Promise<T>,
  { whose = 'own', onLost, onBack }: SessionUse = {},
): Promise<T> {
  await awaitReturn(context, vm)
  const broker = await context.broker()
  const granted = whose === 'granted too' && vm.owner !== broker.user
  if (granted) context.progress.line(`${vm.name} belongs to ${vm.owner}`)
  const connect = granted ? connectGrantedVm : connectVm
  const [identity, host] = [await context.identity(), await context.host()]
  let known: Vm | undefined = vm
  const connecting = openLasting({
    host,
    async connect() {
      const { session } = await connect(broker, identity, host, known ?? (await broker.vm(vm.id)))
      known = undefined
      return session
    },
    onLost: error => {
      context.progress.line(`${vm.name}: ${error.message}; connecting again …`)
      onLost?.()
    },
    onBack() {
      context.progress.line(`${vm.name}: connected again`)
      onBack?.()
    },
  })
  const session = await context.progress.during(`connecting to ${vm.name}`, connecting)
  // however this program ends, what it runs there ends too, if it can still be told
  const leave = () => session.close()
  process.once('exit', leave)
  try {
    return await use(session)
  } finally {
    process.off('exit', leave)
    session.close()
  }
}

/** Waits for an agent that is away only for a moment. Fails with vm-unreachable. */
async function awaitReturn(context: Context, vm: Vm): Promise<void> {
  if (vm.agent?.connected !== false || isWaiting(vm) || (vm.state !== 'ready' && vm.state !== 'enrolled')) return
  const broker = await context.broker()
  const { clock } = await context.host()
  const waiting = waitVm(broker, clock, vm.id, { goal: 'enrolled', timeoutMs: RETURN_MS }).catch(thrown => {
    throw asMortarError(thrown).code === 'timeout' ? new MortarError('vm-unreachable', vm.name) : thrown
  })
  await context.progress.during(`waiting for the agent of ${vm.name}`, waiting)
}

/** Says each new event of a VM once. */
export function eventTeller(context: Context): (vm: Vm) => void {
  let told = new Set<string>()
  const keyOf = ({ at, state, cause }: Vm['events'][number]) => `${at} ${state} ${cause}`
  return vm => {
    for (const event of vm.events) {
      if (!told.has(keyOf(event))) context.progress.line(`${event.state.padEnd(8)}  ${event.cause}`)
    }
    told = new Set(vm.events.map(keyOf))
  }
}

/** A wait that took too long ends here and nowhere else: says how to take it up again. */
export async function waitingOn<T>(vm: Vm, goal: 'enrolled' | 'ready' | 'stopped', work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (thrown) {
    const { code, detail } = asMortarError(thrown)
    if (code !== 'timeout') throw thrown
    const more = goal === 'ready' ? '' : ` --for ${goal}`
    const todo = `The VM goes on ${goal === 'stopped' ? 'stopping' : 'starting'}; wait for it with: mortar vm wait ${vm.name}${more}; read its console with: mortar vm logs ${vm.name}`
    throw new AdvisedError(code, detail, todo, { cause: thrown })
  }
}

/** A VM that reached a state, and who says so: for `ready` the VM itself, by its key, to whoever may connect to it. */
export interface Brought {
  readonly vm: Vm
  readonly word: 'vm' | 'broker'
}

/** Waits for the goal; for `ready` the VM proves its key, at first contact if nobody had one. Fails with vm-silent, vm-state, timeout. */
export function bringTo(context: Context, vm: Vm, goal: 'enrolled' | 'ready', timeoutMs: number): Promise<Brought> {
  return waitingOn(vm, goal, bring(context, vm, goal, timeoutMs))
}

async function bring(context: Context, vm: Vm, goal: 'enrolled' | 'ready', timeoutMs: number): Promise<Brought> {
  const broker = await context.broker()
  const { clock } = await context.host()
  const onChange = eventTeller(context)
  const enter = mayEnter(vm, broker.user)
  // nobody gets into a VM that its owner has not connected to
  const first = goal === 'ready' && vm.owner !== broker.user ? 'ready' : 'enrolled'
  const deadlineMs = clock.now() + timeoutMs
  const arrive = () => {
    const waiting = waitVm(broker, clock, vm.id, { goal: first, timeoutMs: deadlineMs - clock.now(), onChange })
    return context.progress.during(`waiting for ${vm.name} to be ${first}`, waiting)
  }
  let there = await arrive()
  if (goal === 'enrolled' || !enter) return { vm: there, word: 'broker' }
  // that it is ready is what the broker says until the VM has proven its key to this very program
  const prove = () =>
    withSessionOf(context, there, async () => context.progress.line(`${vm.name} proved its key`), {
      whose: 'granted too',
    })
  for (;;) {
    try {
      await prove()
      break
    } catch (thrown) {
      const { code, message } = asMortarError(thrown)
      if (!AWAY.includes(code) || clock.now() + RETRY_MS >= deadlineMs) throw thrown
      context.progress.line(`${vm.name}: ${message}; trying again …`)
      await sleep(RETRY_MS)
      there = await arrive()
    }
  }
  if (there.state === 'ready') return { vm: there, word: 'vm' }
  const becoming = waitVm(broker, clock, vm.id, { goal: 'ready', timeoutMs: READY_MS, onChange })
  return { vm: await context.progress.during(`waiting for ${vm.name} to be ready`, becoming), word: 'vm' }
}

/** Whether this person's session would be let in: the owner's, or a grantee's, who sees no grant but the own one. */
const mayEnter = (vm: Vm, user: string) =>
  vm.owner === user || grantsOf(vm).some(({ grantee }) => encodeBase64url(grantee) === user)
