/** The owner decides which boot is the VM, when its keys do not prove it. */
import type { Vm } from '../../../protocol/control/api.ts'
import { browserHost } from '../../host/host.ts'
import { standingOf } from '../../sessions/connect.ts'
import { explain } from '../../vms/boot-words.ts'
import { type Candidate, candidatesOf, type Standing } from '../../vms/boots.ts'
import { confirmBoot } from '../../vms/confirm.ts'
import { h, useMemo, useState, type VNode } from '../preact.ts'
import type { Login } from '../state.ts'
import { refresh } from '../watch.ts'
import { formatTime } from './format.ts'
import { Button, Card, Confirm, Outcome, useAction } from './parts.ts'

/** What there is to decide; null when nothing is, or the broker shows what nobody can judge, which connecting tells. */
function decisionOf(vm: Vm, login: Login): { why: string; candidates: readonly Candidate[] } | null {
  let kind: Standing['kind']
  let candidates: readonly Candidate[]
  try {
    kind = standingOf(login.identity, browserHost.suite, vm).kind
    candidates = candidatesOf(browserHost.suite, vm)
  } catch {
    return null
  }
  const why = vm.agent === null ? null : explain(vm.name, kind)
  return why === null ? null : { why, candidates }
}

export function DecisionCard({ vm, login }: { vm: Vm; login: Login }): VNode | null {
  const [asked, ask] = useState<Candidate | null>(null)
  const action = useAction()
  const decision = useMemo(() => decisionOf(vm, login), [vm.revision, login])
  if (!decision) return null
  const decide = (candidate: Candidate) => {
    ask(null)
    const parts = { broker: login.broker, identity: login.identity, host: browserHost }
    void action.run('Confirming', async () => {
      await confirmBoot(parts, vm, candidate)
      refresh()
    })
  }
  return h(
    Card,
    { title: `Is this ${vm.name}?` },
    h('div', { class: 'problem', role: 'alert' }, h('p', {}, decision.why)),
    h(
      'ul',
      { class: 'boots' },
      decision.candidates.map(candidate =>
        h(
          'li',
          { key: candidate.words },
          h('p', {}, h('code', { class: 'break' }, candidate.words)),
          h(
            'p',
            { class: 'muted' },
            `Enrolled ${formatTime(candidate.enrolledAt)}${candidate.connected ? '' : '; not connected'}${candidate.current ? '; it was there first' : ''}`,
          ),
          h(Button, {
            label: 'Confirm this one',
            about: candidate.words,
            disabled: action.busy !== null || !candidate.connected,
            onPress: () => ask(candidate),
          }),
        ),
      ),
    ),
    h(Outcome, { action }),
    asked
      ? h(Confirm, {
          title: `Confirm ${vm.name}?`,
          text: `The boot with the words “${asked.words}” is ${vm.name} from now on. It gets what you send; all others are turned away.`,
          yes: 'Confirm it',
          onYes: () => decide(asked),
          onNo: () => ask(null),
        })
      : null,
  )
}
