/** The form that makes a drive. */

import { createDrive } from '../../drives/drives.ts'
import { browserHost } from '../../host/host.ts'
import { h, useState, type VNode } from '../preact.ts'
import { current } from '../state.ts'
import { refresh } from '../watch.ts'
import { Field, NAME_INPUT, Outcome, TextField, useAction } from './parts.ts'

const UNITS = { MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 } as const
type Unit = keyof typeof UNITS

export function DriveForm({ onDone }: { onDone: () => void }): VNode {
  const [name, setName] = useState('')
  const [size, setSize] = useState('1')
  const [unit, setUnit] = useState<Unit>('GiB')
  const action = useAction()
  const submit = (event: Event) => {
    event.preventDefault()
    const { login } = current()
    if (!login) return
    void action
      .run(`Creating ${name}`, async () => {
        const sizeBytes = Math.round(Number(size) * UNITS[unit])
        await createDrive(login.broker, login.identity, browserHost.suite, { name, sizeBytes })
        refresh()
      })
      .then(done => {
        if (done) onDone()
      })
  }
  return h(
    'form',
    { class: 'row', onSubmit: submit, 'aria-label': 'Create a drive' },
    h(TextField, {
      label: 'Drive name',
      value: name,
      onValue: setName,
      input: NAME_INPUT,
    }),
    h(TextField, {
      label: 'Size',
      value: size,
      onValue: setSize,
      input: { type: 'number', required: true, min: 0.01, step: 'any' },
    }),
    h(Field, {
      label: 'Unit',
      control: attributes =>
        h(
          'select',
          { ...attributes, value: unit, onChange: event => setUnit(event.currentTarget.value as Unit) },
          Object.keys(UNITS).map(item => h('option', { key: item, value: item }, item)),
        ),
    }),
    h('button', { type: 'submit', class: 'main', disabled: action.busy !== null }, 'Create'),
    h(Outcome, { action }),
  )
}
