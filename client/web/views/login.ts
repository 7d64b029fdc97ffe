/** Log-in: the broker's address and an identity file, which never leaves the browser. */
import { parseBrokerUrl } from '../../broker/request.ts'
import { isEncryptedIdentity } from '../../identity/identity-file.ts'
import { LARGEST_FILE_BYTES, logIn } from '../account.ts'
import { forgetBroker } from '../pins.ts'
import { h, useState, type VNode } from '../preact.ts'
import { route } from '../route.ts'
import { Button, Field, Outcome, TextField, useAction } from './parts.ts'

export function LoginView(): VNode {
  const [brokerUrl, setBrokerUrl] = useState(() => route().broker)
  const [file, setFile] = useState<File | null>(null)
  const [encrypted, setEncrypted] = useState(false)
  const [passphrase, setPassphrase] = useState('')
  const action = useAction()

  const choose = (chosen: File | null) => {
    setFile(chosen)
    setPassphrase('')
    setEncrypted(false)
    action.clear()
    if (!chosen || chosen.size > LARGEST_FILE_BYTES) return
    void action.run('Reading the file', async () => {
      const start = new Uint8Array(await chosen.arrayBuffer())
      setEncrypted(isEncryptedIdentity(start))
      start.fill(0)
    })
  }
  const submit = (event: Event) => {
    event.preventDefault()
    if (!file) return
    void action.run(encrypted ? 'Opening the identity' : 'Logging in', async () => {
      // scrypt holds the page for a second: let it say so first
      await new Promise(resolve => setTimeout(resolve, 50))
      try {
        await logIn({ brokerUrl, file, passphrase: encrypted ? passphrase : undefined })
      } finally {
        setPassphrase('')
      }
    })
  }
  return h(
    'section',
    { class: 'card login', 'aria-labelledby': 'login-title' },
    h('h1', { id: 'login-title' }, 'Log in'),
    h(
      'p',
      { class: 'muted' },
      'Your identity is read here and stays in the memory of this page. The broker gets a signature, never the identity.',
    ),
    h(
      'form',
      { onSubmit: submit },
      h(TextField, {
        label: 'Broker',
        value: brokerUrl,
        onValue: setBrokerUrl,
        input: { type: 'url', required: true },
      }),
      h(Field, {
        label: 'Identity file',
        hint: 'Made with: mortar identity create; usually ~/.config/mortar/identity',
        control: attributes =>
          h('input', {
            ...attributes,
            type: 'file',
            required: true,
            onChange: event => choose(event.currentTarget.files?.[0] ?? null),
          }),
      }),
      encrypted
        ? h(TextField, {
            label: 'Passphrase',
            value: passphrase,
            onValue: setPassphrase,
            input: { type: 'password', required: true, autofocus: true },
          })
        : null,
      h('button', { type: 'submit', class: 'main', disabled: !file || action.busy !== null }, 'Log in'),
    ),
    h(
      Outcome,
      { action },
      action.error?.code === 'broker-mismatch'
        ? h(Button, {
            label: 'Forget the known key',
            about: `of ${brokerUrl}`,
            kind: 'danger',
            onPress() {
              forgetBroker(parseBrokerUrl(brokerUrl))
              action.clear()
            },
          })
        : null,
    ),
  )
}
