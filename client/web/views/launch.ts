/** The form that launches a VM; the page then waits for its enrolment and connects, which proves the VM. */
import type { Brick } from '../../broker/api.ts'
import { browserHost } from '../../host/host.ts'
import { launchVm } from '../../vms/vm.ts'
import { h, useState, type VNode } from '../preact.ts'
import { goTo } from '../route.ts'
import { connectWhenEnrolled } from '../sessions.ts'
import { current } from '../state.ts'
import { refresh } from '../watch.ts'
import { Field, NAME_INPUT, Outcome, TextField, useAction } from './parts.ts'

export function LaunchForm({ bricks }: { bricks: readonly Brick[] }): VNode {
  const [name, setName] = useState('')
  const [chosen, setChosen] = useState('')
  const [memoryMiB, setMemory] = useState('1024')
  const [cpus, setCpus] = useState('1')
  const action = useAction()
  // the newest of a name is the one that launches
  const names = [...new Set(bricks.map(brick => brick.name))]
  const brick = chosen === '' ? (names[0] ?? '') : chosen

  const submit = (event: Event) => {
    event.preventDefault()
    const { login } = current()
    if (!login) return
    void action.run(`Launching ${name}`, async () => {
      const options = { name, brick, memoryMiB: Number(memoryMiB), vcpus: Number(cpus) }
      const vm = await launchVm(login.broker, login.identity, browserHost, options)
      connectWhenEnrolled(vm.id)
      refresh()
      goTo(vm.id)
    })
  }
  const number = { type: 'number', required: true, step: 1 } as const
  return h(
    'form',
    { class: 'row', onSubmit: submit, 'aria-label': 'Launch a VM' },
    h(TextField, {
      label: 'Name',
      value: name,
      onValue: setName,
      input: NAME_INPUT,
    }),
    h(Field, {
      label: 'Brick',
      control: attributes =>
        h(
          'select',
          { ...attributes, required: true, value: brick, onChange: event => setChosen(event.currentTarget.value) },
          names.map(item => h('option', { key: item, value: item }, item)),
        ),
    }),
    h(TextField, {
      label: 'Memory (MiB)',
      value: memoryMiB,
      onValue: setMemory,
      input: { ...number, min: 256, max: 1_048_576 },
    }),
    h(TextField, { label: 'CPUs', value: cpus, onValue: setCpus, input: { ...number, min: 1, max: 256 } }),
    h('button', { type: 'submit', class: 'main', disabled: action.busy !== null || names.length === 0 }, 'Launch'),
    h(Outcome, { action }),
  )
}
