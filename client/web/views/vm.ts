/** One VM: its state and connection, what can be done in it, and what is known of it. */
import type { Vm } from '../../../protocol/control/api.ts'
import { encodeBase64url } from '../../../protocol/core/bytes.ts'
import { printable } from '../../vms/vm.ts'
import { Fragment, h, useRef, type VNode } from '../preact.ts'
import { goTo, linkTo, route } from '../route.ts'
import { connect, disconnect } from '../sessions.ts'
import { type Connection, useMortar } from '../state.ts'
import { DecisionCard } from './decide.ts'
import { DrivesCard } from './drives.ts'
import { Button, Card, Problem, Progress } from './parts.ts'
import { RunCard } from './run.ts'
import { TerminalCard } from './terminal.ts'
import { StateTag, VmActions } from './vm-actions.ts'
import { ConsoleCard, EventsCard, FactsCard, KeyCard } from './vm-facts.ts'

export function VmView({ id }: { id: string }): VNode {
  const { vms, connections, login } = useMortar()
  const seen = useRef(false)
  const vm = vms?.find(item => item.id === id)
  if (!vm || !login) {
    return h(
      Card,
      { title: 'There is no such VM' },
      h('p', {}, 'The broker shows none: it was deleted, or it is not yours, so the broker says.'),
      h('a', { href: linkTo(null) }, 'All virtual machines'),
    )
  }
  const connection = connections[id]
  const mine = vm.owner === encodeBase64url(login.identity.signKey)
  const session = connection?.stage === 'open' ? connection.session : null
  // what was on the screen stays when the session is lost
  if (session) seen.current = true
  const used = seen.current
  return h(
    Fragment,
    {},
    h(
      'div',
      { class: 'title' },
      h('a', { href: linkTo(null), class: 'back' }, '‹ All virtual machines'),
      h('div', { class: 'title-line' }, h('h1', {}, vm.name), h(StateTag, { state: vm.state })),
      h(VmActions, { vm, onDeleted: () => (route().vm === id ? goTo(null) : undefined) }),
    ),
    vm.failure ? h(Failure, { vm }) : null,
    mine ? h(DecisionCard, { vm, login }) : null,
    h(
      'div',
      { class: 'columns' },
      h(
        'div',
        { class: 'work' },
        mine
          ? h(ConnectionCard, { vm, connection })
          : h('p', { class: 'muted' }, 'Only its owner can connect to this VM.'),
        used ? h(TerminalCard, { session, name: vm.name }) : null,
        used ? h(RunCard, { session }) : null,
        mine ? h(DrivesCard, { vm }) : null,
        h(ConsoleCard, { vm }),
      ),
      h('aside', {}, h(FactsCard, { vm }), h(KeyCard, { vm, login }), h(EventsCard, { vm })),
    ),
  )
}

/** Why a VM failed, in the broker's words, and the last lines of its console. */
function Failure({ vm }: { vm: Vm }): VNode | null {
  if (!vm.failure) return null
  const { stage, reason, consoleTail } = vm.failure
  const tail = printable(consoleTail).trim()
  return h(
    'div',
    { class: 'problem', role: 'alert' },
    h('strong', {}, `${vm.name} failed at stage ${stage}`),
    h('p', {}, reason),
    tail === '' ? null : h('pre', { class: 'log', tabIndex: 0, 'aria-label': 'Last lines of the console' }, tail),
    h('p', { class: 'advice' }, 'Read its console below; then delete it and launch another'),
  )
}

const WAITS: Partial<Record<Vm['state'], string>> = {
  defined: 'It is being prepared.',
  booting: 'It boots; its agent has not enrolled yet.',
  stopping: 'It is shutting down.',
  stopped: 'It is stopped.',
  failed: 'It failed.',
}

function ConnectionCard({ vm, connection }: { vm: Vm; connection: Connection | undefined }): VNode {
  const connectable = vm.state === 'enrolled' || vm.state === 'ready'
  const stage = connection?.stage
  const busy = stage === 'connecting' || stage === 'awaited'
  const button =
    stage === 'open' || stage === 'awaited'
      ? h(Button, { label: stage === 'open' ? 'Disconnect' : 'Do not connect', onPress: () => disconnect(vm.id) })
      : h(Button, {
          label: 'Connect',
          kind: 'main',
          disabled: busy || !connectable,
          onPress: () => void connect(vm),
        })
  return h(
    Card,
    { title: 'Connection', tools: button },
    stage === 'awaited' ? h(Progress, { label: `Waiting for ${vm.name} to enrol` }) : null,
    stage === 'connecting' ? h(Progress, { label: 'Opening the encrypted channel' }) : null,
    connection?.stage === 'open' && connection.lost
      ? h(Progress, { label: 'The connection was lost; connecting again. What runs goes on' })
      : null,
    connection?.stage === 'open'
      ? h(
          'p',
          { role: 'status', class: 'connected' },
          connection.contact === 'first'
            ? 'Connected, end to end. The VM proved at first contact that it is the one you launched, and has your certificate.'
            : 'Connected, end to end. The VM proved the key that you certified.',
        )
      : null,
    connection?.stage === 'ended' && connection.error ? h(Problem, { error: connection.error }) : null,
    connection?.stage === 'ended' && !connection.error ? h('p', { role: 'status' }, 'The session has ended.') : null,
    stage === undefined || (stage === 'ended' && !connectable)
      ? h('p', { class: 'muted' }, WAITS[vm.state] ?? 'Connect to use terminal, commands and drives.')
      : null,
  )
}
