/** A shell in the VM on the page: opens on request, follows the size of its frame, says how the shell ended. */
import { asMortarError, MortarError } from '../../../protocol/core/errors.ts'
import type { ClientSession } from '../../../protocol/session.ts'
import { about } from '../../errors/name-error.ts'
import { openTerminal, type Terminal } from '../../programs/terminal.ts'
import { h, useEffect, useRef, useState, type VNode } from '../preact.ts'
import { openScreen, type Screen } from '../xterm.ts'
import { formatExit } from './format.ts'
import { Button, Card, Problem, Progress } from './parts.ts'

interface Shell {
  /** tells one from the next */
  readonly number: number
  readonly session: ClientSession
  readonly user: string
}

type Stage =
  | { readonly name: 'closed' }
  | { readonly name: 'opening' | 'open'; readonly shell: Shell }
  | { readonly name: 'ended'; readonly shell: Shell; readonly how: string | MortarError }

/** `session`: null while there is none; the last screen stays readable. */
export function TerminalCard({ session, name }: { session: ClientSession | null; name: string }): VNode {
  const [stage, setStage] = useState<Stage>({ name: 'closed' })
  const [user, setUser] = useState('')
  const count = useRef(0)
  const leave = useRef<HTMLDivElement>(null)
  const shell = stage.name === 'closed' ? null : stage.shell
  const live = stage.name === 'opening' || stage.name === 'open'
  const open = (event: Event) => {
    event.preventDefault()
    if (session) setStage({ name: 'opening', shell: { number: ++count.current, session, user } })
  }
  const close = h(Button, { label: 'Close', about: 'the terminal', onPress: () => setStage({ name: 'closed' }) })
  const form = h(
    'form',
    { class: 'inline', onSubmit: open, 'aria-label': 'Open a terminal' },
    h('input', {
      'aria-label': 'As user',
      placeholder: 'your own account',
      size: 10,
      value: user,
      autocomplete: 'off',
      onInput: event => setUser(event.currentTarget.value),
    }),
    h('button', { type: 'submit', class: 'main', disabled: !session }, 'Open a terminal'),
  )
  return h(
    Card,
    { title: 'Terminal', tools: live ? h('div', { ref: leave }, close) : form },
    stage.name === 'opening' ? h(Progress, { label: 'Starting a shell' }) : null,
    shell
      ? h(ScreenFrame, {
          key: shell.number,
          shell,
          name,
          onOpen: () => setStage({ name: 'open', shell }),
          onEnd: how => setStage({ name: 'ended', shell, how }),
          onLeave: () => leave.current?.querySelector('button')?.focus(),
        })
      : null,
    live ? h('p', { class: 'muted small' }, 'Ctrl+F6 leaves the terminal by keyboard.') : null,
    stage.name === 'ended' && typeof stage.how === 'string'
      ? h('p', { role: 'status', class: 'exit' }, `The shell ended: ${stage.how}.`)
      : null,
    stage.name === 'ended' && stage.how instanceof MortarError ? h(Problem, { error: stage.how }) : null,
  )
}

interface FrameProps {
  readonly shell: Shell
  readonly name: string
  onOpen(): void
  onEnd(how: string | MortarError): void
  onLeave(): void
}

/** Stays with its last lines when the shell ends; going away closes the shell. */
function ScreenFrame(props: FrameProps): VNode {
  const frame = useRef<HTMLDivElement>(null)
  useEffect(() => (frame.current ? attach(frame.current, props) : undefined), [])
  return h('div', { class: 'screen', ref: frame, role: 'group', 'aria-label': `Terminal in ${props.name}` })
}

/** Joins a screen and a shell. Returns what ends both. */
function attach(frame: HTMLElement, { shell: asked, onOpen, onEnd, onLeave }: FrameProps): () => void {
  const { session, user } = asked
  let shell: Terminal | null = null
  let gone = false
  // what was typed before the shell was there
  const early: Uint8Array[] = []
  const type = (keys: Uint8Array) => {
    if (!shell) early.push(keys)
    // a failure ends the shell too, which says it once
    else shell.write(keys).catch(() => undefined)
  }
  const screen: Screen = openScreen(frame, {
    onKeys: type,
    onSize: (cols, rows) => shell?.resize(cols, rows),
    onLeave,
  })
  const start = async () => {
    const { cols, rows } = screen
    const params = { cols, rows, term: 'xterm-256color', ...(user === '' ? {} : { user }) }
    const opened = await about(user === '' ? 'a shell of your own account' : `a shell of ${user}`, () =>
      openTerminal(session, params, bytes => (gone ? undefined : screen.write(bytes))),
    )
    if (gone) return opened.close()
    shell = opened
    if (screen.cols !== cols || screen.rows !== rows) opened.resize(screen.cols, screen.rows)
    for (const keys of early.splice(0)) type(keys)
    onOpen()
    screen.focus()
    const exit = await opened.ended
    if (!gone) onEnd(formatExit(exit))
  }
  start().catch(thrown => {
    if (!gone) onEnd(asMortarError(thrown))
  })
  return () => {
    gone = true
    shell?.close()
    screen.dispose()
  }
}
