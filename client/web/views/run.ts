/** Runs a command in the VM: a line split into words, or given to sh; output as it comes, and how it ended. */
import { asMortarError } from '../../../protocol/core/errors.ts'
import type { ClientSession } from '../../../protocol/session.ts'
import { about } from '../../errors/name-error.ts'
import { type Exit, runProgram, type SignalName } from '../../programs/exec.ts'
import { printable } from '../../vms/vm.ts'
import { h, useRef, useState, type VNode } from '../preact.ts'
import { splitWords, wantsShell } from '../words.ts'
import { formatBytes, formatExit } from './format.ts'
import { Button, Card, Outcome, TextField, useAction } from './parts.ts'

/** characters kept of the output; the newest are shown */
const MOST_SHOWN = 262_144
/** drawing at most this often keeps the page usable in a flood */
const DRAW_MS = 100

interface Piece {
  readonly from: 'stdout' | 'stderr'
  text: string
}

interface Run {
  readonly line: string
  readonly pieces: readonly Piece[]
  /** characters no longer kept */
  readonly dropped: number
  readonly exit: Exit | null
}

/** `session`: null while there is none; what came before stays readable. */
export function RunCard({ session }: { session: ClientSession | null }): VNode {
  const [line, setLine] = useState('')
  const [shell, setShell] = useState(false)
  const [user, setUser] = useState('')
  const [run, setRun] = useState<Run | null>(null)
  const signal = useRef<((name: SignalName) => void) | null>(null)
  const [stopped, setStopped] = useState<SignalName | null>(null)
  // pressed before the program runs it waits for it
  const wanted = useRef<SignalName | null>(null)
  const action = useAction()
  const words = argvOf(line, shell)

  const submit = (event: Event) => {
    event.preventDefault()
    void action.run('Running', async () => {
      const argv = shell ? ['sh', '-c', line] : splitWords(line)
      if (argv.length === 0 || !session) return
      const output = new Collector(line, setRun)
      try {
        const params = user === '' ? { argv } : { argv, user }
        const thing = user === '' ? (argv[0] ?? '') : `${argv[0]}, as ${user}`
        const exit = await about(thing, () =>
          runProgram(session, params, {
            onOutput: (bytes, from) => output.add(bytes, from),
            onRunning(send) {
              signal.current = send
              if (wanted.current) send(wanted.current)
            },
          }),
        )
        output.end(exit)
      } finally {
        signal.current = null
        wanted.current = null
        setStopped(null)
        output.draw()
      }
    })
  }
  // asked politely first; what does not listen is killed by the second press
  const stop = () => {
    const name = stopped ? 'SIGKILL' : 'SIGTERM'
    wanted.current = name
    signal.current?.(name)
    setStopped(name)
  }
  const running = action.busy !== null
  return h(
    Card,
    { title: 'Run a command' },
    h(
      'form',
      { class: 'row', onSubmit: submit },
      h(TextField, {
        label: 'Command',
        value: line,
        onValue: setLine,
        input: { required: true, class: 'mono wide', autocapitalize: 'off', placeholder: 'uname -a' },
      }),
      h(TextField, { label: 'As user', value: user, onValue: setUser, input: { placeholder: 'default', size: 8 } }),
      h(
        'label',
        { class: 'check' },
        h('input', { type: 'checkbox', checked: shell, onChange: event => setShell(event.currentTarget.checked) }),
        'Through sh -c',
      ),
      running
        ? h(Button, { label: stopped ? 'Kill' : 'Stop', kind: 'danger', about: 'the command', onPress: stop })
        : h('button', { type: 'submit', class: 'main', disabled: !session }, 'Run'),
    ),
    shell || line === '' ? null : h(Words, { words }),
    h(Outcome, { action }),
    run === null ? null : h(RunOutput, { run }),
  )
}

function argvOf(line: string, shell: boolean): readonly string[] | string {
  try {
    return shell ? [] : splitWords(line)
  } catch (thrown) {
    return asMortarError(thrown).detail
  }
}

/** What the program will get, so that nobody wonders about quotes and stars. */
function Words({ words }: { words: readonly string[] | string }): VNode {
  if (typeof words === 'string') return h('p', { class: 'words muted' }, `Not complete: ${words}`)
  return h(
    'p',
    { class: 'words muted' },
    'Words: ',
    words.map((word, index) => h('code', { key: index }, word === '' ? '(empty)' : word)),
    wantsShell(words) ? ' Nothing is expanded or piped: choose “Through sh -c” for that.' : null,
  )
}

function RunOutput({ run }: { run: Run }): VNode {
  const { pieces, dropped, exit, line } = run
  const nothing = pieces.length === 0 && exit !== null
  return h(
    'div',
    { class: 'run', 'data-exit': exit ? formatExit(exit) : '' },
    h('div', { class: 'muted small' }, h('code', {}, line)),
    dropped === 0 ? null : h('p', { class: 'muted small' }, `The first ${formatBytes(dropped)} are no longer shown.`),
    h(
      'pre',
      { class: 'log', tabIndex: 0, 'aria-label': 'Output' },
      nothing ? h('span', { class: 'muted' }, '(no output)') : null,
      pieces.map(({ from, text }, index) =>
        h('span', { key: index, class: from, title: from === 'stderr' ? 'stderr' : undefined }, printable(text)),
      ),
    ),
    exit === null
      ? null
      : h('p', { role: 'status', class: exit.code === 0 ? 'exit good' : 'exit bad' }, formatExit(exit)),
  )
}

/** Collects output and hands it over for drawing now and then. */
class Collector {
  readonly #line: string
  readonly #show: (run: Run) => void
  readonly #decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() }
  readonly #pieces: Piece[] = []
  #kept = 0
  #dropped = 0
  #exit: Exit | null = null
  #drawn = 0

  constructor(line: string, show: (run: Run) => void) {
    this.#line = line
    this.#show = show
    this.draw()
  }

  /** Resolves after the page had time to draw, which slows a flood down at its source. */
  async add(bytes: Uint8Array, from: Piece['from']): Promise<void> {
    const text = this.#decoders[from].decode(bytes, { stream: true })
    const last = this.#pieces.at(-1)
    if (last?.from === from) last.text += text
    else this.#pieces.push({ from, text })
    this.#kept += text.length
    while (this.#kept > MOST_SHOWN) this.#drop(this.#kept - MOST_SHOWN)
    if (Date.now() - this.#drawn < DRAW_MS) return
    this.draw()
    await new Promise(resolve => setTimeout(resolve))
  }

  #drop(surplus: number): void {
    const first = this.#pieces[0]
    if (!first) return
    const cut = Math.min(surplus, first.text.length)
    first.text = first.text.slice(cut)
    if (first.text === '') this.#pieces.shift()
    this.#kept -= cut
    this.#dropped += cut
  }

  end(exit: Exit): void {
    this.#exit = exit
  }

  draw(): void {
    this.#drawn = Date.now()
    const pieces = this.#pieces.map(piece => ({ ...piece }))
    this.#show({ line: this.#line, pieces, dropped: this.#dropped, exit: this.#exit })
  }
}
