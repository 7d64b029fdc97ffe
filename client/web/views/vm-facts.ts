/** What is known of a VM: its facts, its agent's key, its events, its console. */
import type { Vm } from '../../../protocol/control/api.ts'
import { asMortarError, MortarError } from '../../../protocol/core/errors.ts'
import { browserHost } from '../../host/host.ts'
import type { Identity } from '../../identity/identity.ts'
import { standingOf } from '../../sessions/connect.ts'
import type { Standing } from '../../vms/boots.ts'
import { printable } from '../../vms/vm.ts'
import { type ComponentChildren, h, useMemo, useState, type VNode } from '../preact.ts'
import { current, type Login } from '../state.ts'
import { formatBytes, formatClock, formatTime } from './format.ts'
import { Button, Card, Outcome, Problem, useAction } from './parts.ts'

function Facts({ rows }: { rows: readonly (readonly [string, ComponentChildren])[] }): VNode {
  return h(
    'dl',
    {},
    rows.map(([name, value]) => h('div', { key: name }, h('dt', {}, name), h('dd', {}, value))),
  )
}

export function FactsCard({ vm }: { vm: Vm }): VNode {
  const { agent } = vm
  const none = h('span', { class: 'muted' }, 'not yet')
  return h(
    Card,
    { title: 'Facts' },
    h(Facts, {
      rows: [
        [
          'Addresses',
          agent ? agent.addresses.map(address => h('code', { key: address, class: 'line' }, address)) : none,
        ],
        ['Agent', agent ? `${agent.version}, ${agent.connected ? 'reachable' : 'not connected'}` : none],
        ['Enrolled', agent ? formatTime(agent.enrolledAt) : none],
        ['Launched', formatTime(vm.createdAt)],
        ['Boot', agent ? `number ${agent.generation}` : none],
        [
          'Brick',
          [vm.brick, ' ', h('code', { key: 'digest', title: vm.brickSha256 }, `${vm.brickSha256.slice(0, 12)}…`)],
        ],
        ['Size', `${formatBytes(vm.memoryMiB * 2 ** 20)}, ${vm.vcpus} CPU${vm.vcpus === 1 ? '' : 's'}`],
        ['Id', h('code', { class: 'break' }, vm.id)],
      ],
    }),
    h('p', { class: 'muted small' }, 'State, facts and events are what the broker says.'),
  )
}

const TOLD: Readonly<Record<Standing['kind'], string>> = {
  certified: 'Certified by you for this boot.',
  succeeded: 'Proven by the key that the boot before left; certified when you connect.',
  first: 'Said by the broker; proven when you connect.',
  unproven: 'Not proven. Decide above whether this boot is your VM.',
  contested: 'More than one boot claims to be this VM. Decide above which one is.',
}

/** The agent's public key of this boot, and whether the owner vouches for it. */
export function KeyCard({ vm, login }: { vm: Vm; login: Login }): VNode | null {
  const { agent, certificate } = vm
  const mine = vm.owner === login.broker.user
  const verdict = useMemo(() => (mine ? judge(login.identity, vm) : null), [vm.revision, certificate, login])
  if (!agent || verdict === null) return null
  return h(
    Card,
    { title: 'Agent key' },
    verdict === 'certified'
      ? h('p', { class: 'connected' }, TOLD.certified)
      : verdict instanceof MortarError
        ? h(Problem, { error: verdict })
        : h('p', { class: 'muted' }, TOLD[verdict]),
    h(Facts, {
      rows: [
        ['X25519', h('code', { class: 'break' }, agent.agentDh)],
        ['Ed25519', h('code', { class: 'break' }, agent.agentSign)],
      ],
    }),
  )
}

function judge(identity: Identity, vm: Vm): Standing['kind'] | MortarError {
  try {
    return standingOf(identity, browserHost.suite, vm).kind
  } catch (thrown) {
    return asMortarError(thrown)
  }
}

export function EventsCard({ vm }: { vm: Vm }): VNode {
  return h(
    Card,
    { title: 'Events' },
    h(
      'ol',
      { class: 'events' },
      vm.events
        .map((event, index) =>
          h(
            'li',
            { key: index },
            h('time', { dateTime: event.at, title: formatTime(event.at) }, formatClock(event.at)),
            h('span', {}, h('b', {}, event.state), ` ${event.cause}`),
          ),
        )
        .reverse(),
    ),
  )
}

/** The console as the broker kept it, read when asked for. */
export function ConsoleCard({ vm }: { vm: Vm }): VNode {
  const [text, setText] = useState<string | null>(null)
  const action = useAction()
  const read = () =>
    void action.run('Reading the console', async () => {
      const { login } = current()
      if (login) setText(printable(await login.broker.vmLog(vm.id)).trim())
    })
  return h(
    Card,
    {
      title: 'Console log',
      tools: [
        text === null
          ? null
          : h(Button, { key: 'hide', label: 'Hide', about: 'the console log', onPress: () => setText(null) }),
        h(Button, {
          key: 'read',
          label: text === null ? 'Show' : 'Read again',
          about: 'the console log',
          disabled: action.busy !== null,
          onPress: read,
        }),
      ],
    },
    h(Outcome, { action }),
    text === null
      ? h(
          'p',
          { class: 'muted' },
          'What the VM wrote to its serial console while it ran, as the broker kept it. The broker can read it, and can show something else: the words of a session that stand in it prove nothing against the broker.',
        )
      : h('pre', { class: 'log', tabIndex: 0, 'aria-label': 'Console log' }, text === '' ? '(empty)' : text),
  )
}
