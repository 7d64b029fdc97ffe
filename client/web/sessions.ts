/** The page's encrypted sessions, one for each VM it is connected to; they outlive the view that opened them. */
import type { Vm } from '../../protocol/control/api.ts'
import { asMortarError } from '../../protocol/core/errors.ts'
import { browserHost } from '../host/host.ts'
import { type Connection, connectVm } from '../sessions/connect.ts'
import { openLasting } from '../sessions/lasting-session.ts'
import { current, setConnection } from './state.ts'

/** Connects as soon as the VM has enrolled, which proves a new VM to its owner and makes it ready. */
export function connectWhenEnrolled(vm: string): void {
  setConnection(vm, { stage: 'awaited' })
}

/** Called with every new list. */
export function connectAwaited(vms: readonly Vm[]): void {
  for (const [id, { stage }] of Object.entries(current().connections)) {
    if (stage !== 'awaited') continue
    const vm = vms.find(item => item.id === id)
    if (vm?.state === 'enrolled' || vm?.state === 'ready') void connect(vm)
    else if (!vm || vm.state === 'failed' || vm.state === 'stopped') setConnection(id, undefined)
  }
}

/** Opens the session; how it went is in the state's connections. */
export async function connect(vm: Vm): Promise<void> {
  const { login } = current()
  const before = current().connections[vm.id]?.stage
  if (!login || before === 'open' || before === 'connecting') return
  setConnection(vm.id, { stage: 'connecting' })
  try {
    let known: Vm | undefined = vm
    let contact: Connection['contact'] = 'known'
    const session = await openLasting({
      host: browserHost,
      async connect() {
        const connection = await connectVm(
          login.broker,
          login.identity,
          browserHost,
          known ?? (await login.broker.vm(vm.id)),
        )
        if (known) contact = connection.contact
        known = undefined
        return connection.session
      },
      onLost: () => setLost(vm.id, true),
      onBack: () => setLost(vm.id, false),
    })
    if (current().login !== login) return session.close()
    setConnection(vm.id, { stage: 'open', session, contact })
    void session.closed.then(error => {
      const now = current().connections[vm.id]
      if (now?.stage === 'open' && now.session === session) setConnection(vm.id, { stage: 'ended', error })
    })
  } catch (thrown) {
    if (current().login === login) setConnection(vm.id, { stage: 'ended', error: asMortarError(thrown) })
  }
}

function setLost(vm: string, lost: boolean): void {
  const connection = current().connections[vm]
  if (connection?.stage === 'open') setConnection(vm, { ...connection, lost })
}

export function disconnect(vm: string): void {
  const connection = current().connections[vm]
  setConnection(vm, undefined)
  if (connection?.stage === 'open') connection.session.close()
}

export function closeSessions(): void {
  for (const vm of Object.keys(current().connections)) disconnect(vm)
}
