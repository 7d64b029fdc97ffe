/** What can be done to a VM as a whole, and its state as a coloured word. */
import type { Vm, VmState } from '../../../protocol/control/api.ts'
import { lockOpenDrives } from '../../drives.ts'
import { h, useState, type VNode } from '../preact.ts'
import { disconnect } from '../sessions.ts'
import { current } from '../state.ts'
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
  return h('span', { class: `state ${TONES[state]}` }, state)
}

const RUNS: readonly VmState[] = ['defined', 'booting', 'enrolled', 'ready']

/** Stop and delete, each after a question that names the VM. `onDeleted`: once it is gone. */
export function VmActions({ vm, onDeleted }: { vm: Vm; onDeleted?: () => void }): VNode {
  const [asked, ask] = useState<'stop' | 'delete' | null>(null)
  const action = useAction()
  const act = (what: 'stop' | 'delete') => {
    ask(null)
    const { login } = current()
    if (!login) return
    void action
      .run(what === 'stop' ? 'Stopping' : 'Deleting', async () => {
        const connection = current().connections[vm.id]
        // what programs wrote to a drive and the VM did not yet would be lost
        if (connection?.stage === 'open') await lockOpenDrives(login.broker, connection.session, vm.drives)
        if (what === 'delete') disconnect(vm.id)
        await (what === 'stop' ? login.broker.stopVm(vm.id) : login.broker.deleteVm(vm.id))
        refresh()
      })
      .then(done => {
        if (done && what === 'delete') onDeleted?.()
      })
  }
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
    h(Outcome, { action }),
    asked === 'stop'
      ? h(Confirm, {
          title: `Stop ${vm.name}?`,
          text: `${vm.name} is shut down and its programs end. Unlocked drives are locked first.`,
          yes: `Stop ${vm.name}`,
          onYes: () => act('stop'),
          onNo: () => ask(null),
        })
      : null,
    asked === 'delete'
      ? h(Confirm, {
          title: `Delete ${vm.name}?`,
          text: `${vm.name} and its system disk are destroyed for good. Its drives are detached and kept.`,
          yes: `Delete ${vm.name}`,
          onYes: () => act('delete'),
          onNo: () => ask(null),
        })
      : null,
  )
}
