/** Sessions for subcommands: finds the VM, connects, and closes when the work is done; brings a VM to `ready`. */
import type { Vm } from '../../protocol/control/api.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { within } from '../clock.ts'
import { connectGrantedVm, connectVm } from '../connect.ts'
import { openLasting } from '../lasting-session.ts'
import { findVm, isWaiting, waitVm } from '../vm.ts'
import { AdvisedError } from './advice.ts'
import type { Context } from './context.ts'

/** ms from first contact to the agent's report that the VM is ready */
const READY_MS = 30_000
/** ms in which an agent that lost its broker is back, if it is alive */
const RETURN_MS = 15_000

/** ms in which a VM has closed its drives, if it ever will */
const LOCKING_MS = 90_000

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

/** Waits for the goal; for `ready` makes first contact when nobody has. Fails with vm-silent, vm-state, timeout. */
export function bringTo(context: Context, vm: Vm, goal: 'enrolled' | 'ready', timeoutMs: number): Promise<Vm> {
  return waitingOn(vm, goal, bring(context, vm, goal, timeoutMs))
}

async function bring(context: Context, vm: Vm, goal: 'enrolled' | 'ready', timeoutMs: number): Promise<Vm> {
  const broker = await context.broker()
  const { clock } = await context.host()
  const onChange = eventTeller(context)
  const waiting = waitVm(broker, clock, vm.id, { goal: 'enrolled', timeoutMs, onChange })
  const enrolled = await context.progress.during(`waiting for ${vm.name} to enrol`, waiting)
  if (goal === 'enrolled' || enrolled.state === 'ready') return enrolled
  await withSessionOf(context, enrolled, async () => context.progress.line(`${vm.name} proved its key; certified`))
  const becoming = waitVm(broker, clock, vm.id, { goal: 'ready', timeoutMs: READY_MS, onChange })
  return context.progress.during(`waiting for ${vm.name} to be ready`, becoming)
}

/** Drives that are open in a VM are locked before it or they are taken away; `force` goes on when that fails. */
export async function lockDrivesOf(context: Context, vm: Vm, force: boolean, only?: string): Promise<void> {
  const wanted = only ? [only] : vm.drives
  // nobody can lock drives in a VM that does not answer; its kernel closes them when it ends
  if (wanted.length === 0 || vm.state !== 'ready' || !vm.agent?.connected) return
  if (vm.owner !== (await context.broker()).user) return
  try {
    const { clock } = await context.host()
    const locking = withSessionOf(context, vm, session => lockOpen(context, session, wanted))
    await within(clock, LOCKING_MS, `locking drives in ${vm.name}`, locking)
  } catch (thrown) {
    const error = asMortarError(thrown)
    if (!force)
      throw new MortarError(error.code, `${error.detail || vm.name} (--force goes on without)`, { cause: error })
    context.progress.line(`going on although drives were not locked: ${error.message}`)
  }
}

async function lockOpen(context: Context, session: ClientSession, wanted: readonly string[]): Promise<void> {
  const { lockOpenDrives } = await import('../drives.ts')
  const locking = lockOpenDrives(await context.broker(), session, wanted)
  await context.progress.during('locking drives that are open', locking)
}
