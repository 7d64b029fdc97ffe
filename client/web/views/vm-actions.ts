/** What can be done to a VM as a whole, and its state as a coloured word. */
import type { Vm, VmState } from '../../../protocol/control/api.ts'
import { type Ending, lockFirst, lockingOf, mayEnd } from '../lock-first.ts'
import { h, useState, type VNode } from '../preact.ts'
import { disconnect } from '../sessions.ts'
import { tell, useMortar } from '../state.ts'
import { refresh } from '../watch.ts'
import { Button, Confirm, Outcome, useAction } from './parts.ts'

const TONES: Record<VmState, 'good' | 'moving' | 'off' | 'bad'> = {
  defined: 'moving',
  booting: 'moving',
  enrolled: 'moving',
  ready: 'good',
  stopping: 'moving',
  stopped: 'off',
  failed: 'bad',
  destroyed: 'off',
}

export function StateTag({ state }: { state: VmState }): VNode {
  return h('span', { class: `state ${TONES[state]}`, title: 'says the broker' }, state)
}

const RUNS: readonly VmState[] = ['defined', 'booting', 'enrolled', 'ready']

/**
 * Stop and delete, each after a question that names the VM, and only for who may. The broker is told once the VM said that its drives
 * are locked, or once the person said to go on without. `onDeleted`: once the broker says that it is gone.
 */
export function VmActions({ vm, onDeleted }: { vm: Vm; onDeleted?: () => void }): VNode | null {
  const { login } = useMortar()
  const [asked, ask] = useState<Ending | null>(null)
  const [tried, trying] = useState<Ending>('stop')
  const [says, say] = useState('')
  const action = useAction()
  if (!login || !mayEnd(vm, login)) return null
  const act = (what: Ending, force = false) => {
    ask(null)
    trying(what)
    say('')
    void action
      .run(what === 'stop' ? 'Stopping' : 'Deleting', async () => {
        // what programs wrote to a drive and the VM did not yet would be lost
        const locked = force ? '' : await lockFirst(vm, login, what)
        if (what === 'delete') disconnect(vm.id)
        await (what === 'stop' ? login.broker.stopVm(vm.id) : login.broker.deleteVm(vm.id))
        if (what === 'delete') tell(`${locked} The broker says that it deleted ${vm.name}.`.trim())
        else say(`${locked} The broker says that it stops ${vm.name}.`.trim())
        refresh()
      })
      .then(done => {
        if (done && what === 'delete') onDeleted?.()
      })
  }
  const lost = action.error?.code === 'unconfirmed' || action.error?.code === 'drive-busy'
  return h(
    'div',
    { class: 'vm-actions' },
    h(
      'div',
      { class: 'buttons' },
      h(Button, {
        label: 'Stop',
        about: vm.name,
        disabled: action.busy !== null || !RUNS.includes(vm.state),
        onPress: () => ask('stop'),
      }),
      h(Button, {
        label: 'Delete',
        about: vm.name,
        kind: 'danger',
        disabled: action.busy !== null,
        onPress: () => ask('delete'),
      }),
    ),
    h(
      Outcome,
      { action },
      lost
        ? h(Button, {
            label: `${tried === 'stop' ? 'Stop' : 'Delete'} ${vm.name} all the same`,
            kind: 'danger',
            onPress: () => act(tried, true),
          })
        : null,
    ),
    says === '' ? null : h('p', { role: 'status', class: 'muted small' }, says),
    asked === 'stop'
      ? h(Confirm, {
          title: `Stop ${vm.name}?`,
          text: `The broker is told to shut ${vm.name} down, which ends its programs. ${lockingOf(vm, login)}`,
          yes: `Stop ${vm.name}`,
          onYes: () => act('stop'),
          onNo: () => ask(null),
        })
      : null,
    asked === 'delete'
      ? h(Confirm, {
          title: `Delete ${vm.name}?`,
          text: `The broker is told to destroy ${vm.name} and its system disk, for good, and to detach its drives and keep them. ${lockingOf(vm, login)}`,
          yes: `Delete ${vm.name}`,
          onYes: () => act('delete'),
          onNo: () => ask(null),
        })
      : null,
  )
}
