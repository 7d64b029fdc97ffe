/** The frame of the page: bar, notices, and the view that the address asks for. */
import { encodeBase64url } from '../../../protocol/core/bytes.ts'
import { logOut } from '../account.ts'
import { h, type VNode } from '../preact.ts'
import { linkTo, useRoute } from '../route.ts'
import { dismiss, type Login, useMortar } from '../state.ts'
import { LoginView } from './login.ts'
import { Overview } from './overview.ts'
import { Button, Problem, Progress } from './parts.ts'
import { VmView } from './vm.ts'

export function App(): VNode {
  const { login, notices, trouble, vms } = useMortar()
  const { vm } = useRoute()
  const view = () => {
    if (!login) return h(LoginView, {})
    if (vms === null) return trouble ? null : h(Progress, { label: 'Reading your VMs' })
    return vm === null ? h(Overview, {}) : h(VmView, { id: vm, key: vm })
  }
  return h(
    'div',
    { class: 'frame' },
    h(Bar, { login }),
    h(
      'main',
      {},
      notices.map(({ number, about }) => {
        const button = h(Button, { label: 'Dismiss', onPress: () => dismiss(number) })
        return typeof about === 'string'
          ? h('div', { class: 'told', role: 'status', key: number }, h('p', {}, about), button)
          : h(Problem, { error: about, key: number }, button)
      }),
      login && trouble
        ? h(Problem, { error: trouble }, h('p', { class: 'muted' }, 'What is shown may be old. Trying again…'))
        : null,
      view(),
    ),
  )
}

function Bar({ login }: { login: Login | null }): VNode {
  return h(
    'header',
    { class: 'bar' },
    h('a', { class: 'brand', href: linkTo(null) }, h(Mark, {}), 'Mortar'),
    login
      ? h(
          'div',
          { class: 'who' },
          h('span', { title: `Broker key ${login.info.id}` }, new URL(login.broker.url).host),
          h(
            'code',
            { title: login.identity.text, class: 'identity' },
            `${encodeBase64url(login.identity.signKey).slice(0, 8)}…`,
          ),
          login.role === 'administrator' ? h('span', { class: 'tag' }, 'administrator') : null,
          h(Button, { label: 'Log out', onPress: logOut }),
        )
      : null,
  )
}

/** Four bricks and the mortar between them. */
function Mark(): VNode {
  return h(
    'svg',
    { viewBox: '0 0 16 16', width: 22, height: 22, 'aria-hidden': 'true' },
    h('path', { fill: 'currentColor', d: 'M1 2h8v3H1zm9 0h5v3h-5zM1 6h4v4H1zm5 0h9v4H6zM1 11h8v3H1zm9 0h5v3h-5z' }),
  )
}
