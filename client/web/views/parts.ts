/** The small parts that views are made of: errors, progress, fields, cards, and actions that report what they do. */
import { asMortarError, ERRORS, type MortarError } from '../../../protocol/core/errors.ts'
import { adviceOn } from '../advice.ts'
import {
  type ComponentChildren,
  h,
  type InputAttributes,
  useEffect,
  useId,
  useRef,
  useState,
  type VNode,
} from '../preact.ts'
import { report } from '../state.ts'

/** What was wrong, with what, and what to do. */
export function Problem({ error, children }: { error: MortarError; children?: ComponentChildren }): VNode {
  return h(
    'div',
    { class: 'problem', role: 'alert', 'data-code': error.code },
    h('strong', {}, ERRORS[error.code].says),
    error.detail === '' ? null : h('pre', { class: 'detail' }, error.detail),
    h('p', { class: 'advice' }, adviceOn(error)),
    children,
  )
}

/** Says that something is being done, and after two seconds for how long. */
export function Progress({ label }: { label: string }): VNode {
  const [seconds, setSeconds] = useState(0)
  useEffect(() => {
    const since = Date.now()
    const timer = setInterval(() => setSeconds(Math.floor((Date.now() - since) / 1000)), 500)
    return () => clearInterval(timer)
  }, [])
  return h(
    'span',
    { class: 'progress' },
    h('span', { class: 'spinner', 'aria-hidden': 'true' }),
    h('span', { role: 'status' }, `${label}…`),
    seconds < 2 ? null : h('span', { class: 'muted' }, ` ${seconds} s`),
  )
}

export interface Action {
  /** what is being done now */
  readonly busy: string | null
  readonly error: MortarError | null
  /** Does it, unless something else of this action still runs. Resolves with whether it succeeded; never rejects. */
  run(label: string, work: () => Promise<unknown> | unknown): Promise<boolean>
  clear(): void
}

/** One thing at a time, its progress and its failure. A failure after the view is gone goes to the top of the page. */
export function useAction(): Action {
  const [busy, setBusy] = useState<string | null>(null)
  const [error, setError] = useState<MortarError | null>(null)
  const live = useRef({ mounted: true, running: false }).current
  useEffect(() => {
    live.mounted = true
    return () => {
      live.mounted = false
    }
  }, [live])
  return {
    busy,
    error,
    clear: () => setError(null),
    async run(label, work) {
      if (live.running) return false
      live.running = true
      setBusy(label)
      setError(null)
      try {
        await work()
        return true
      } catch (thrown) {
        if (live.mounted) setError(asMortarError(thrown))
        else report(thrown)
        return false
      } finally {
        live.running = false
        if (live.mounted) setBusy(null)
      }
    },
  }
}

/** Progress and failure of an action, below what started it. */
export function Outcome({ action, children }: { action: Action; children?: ComponentChildren }): VNode {
  return h(
    'div',
    { class: 'outcome' },
    action.busy === null ? null : h(Progress, { label: action.busy, key: action.busy }),
    action.error === null ? null : h(Problem, { error: action.error }, children),
  )
}

interface FieldProps {
  readonly label: string
  readonly hint?: string
  /** given the attributes that tie label and hint to the control */
  control(attributes: { id: string; 'aria-describedby'?: string }): VNode
}

export function Field({ label, hint, control }: FieldProps): VNode {
  const id = useId()
  const described = hint === undefined ? {} : { 'aria-describedby': `${id}-hint` }
  return h(
    'div',
    { class: 'field' },
    h('label', { for: id }, label),
    control({ id, ...described }),
    hint === undefined ? null : h('small', { id: `${id}-hint`, class: 'muted' }, hint),
  )
}

interface TextFieldProps {
  readonly label: string
  readonly value: string
  readonly onValue: (value: string) => void
  readonly hint?: string
  /** attributes of the input */
  readonly input?: InputAttributes
}

/** a name of the protocol (protocol/core/schema.ts), as browsers check it */
export const NAME_INPUT = {
  required: true,
  maxlength: 63,
  pattern: '[a-z0-9]([a-z0-9.\\-]{0,61}[a-z0-9])?',
  title: 'a-z, 0-9, dot and dash',
} as const

export function TextField({ label, value, onValue, hint, input }: TextFieldProps): VNode {
  return h(Field, {
    label,
    ...(hint === undefined ? {} : { hint }),
    control: attributes =>
      h('input', {
        type: 'text',
        autocomplete: 'off',
        spellcheck: false,
        ...input,
        ...attributes,
        value,
        onInput: event => onValue(event.currentTarget.value),
      }),
  })
}

interface CardProps {
  readonly title: string
  readonly tools?: ComponentChildren
  readonly children?: ComponentChildren
}

export function Card({ title, tools, children }: CardProps): VNode {
  const id = useId()
  return h(
    'section',
    { class: 'card', 'aria-labelledby': id },
    h('header', {}, h('h2', { id }, title), tools === undefined ? null : h('div', { class: 'tools' }, tools)),
    children,
  )
}

/** The heads of a table's columns; the last one's cells hold buttons if it is called Actions. */
export function TableHead({ columns }: { columns: readonly string[] }): VNode {
  const kind = (title: string) => (title === 'Actions' ? { class: 'actions' } : {})
  return h(
    'thead',
    {},
    h(
      'tr',
      {},
      columns.map(title => h('th', { scope: 'col', key: title, ...kind(title) }, title)),
    ),
  )
}

interface ButtonProps {
  readonly label: string
  readonly onPress: () => void
  readonly kind?: 'main' | 'danger' | 'plain'
  readonly disabled?: boolean
  /** when the label alone does not say what it is for */
  readonly about?: string
}

export function Button({ label, onPress, kind = 'plain', disabled = false, about }: ButtonProps): VNode {
  const name = about === undefined ? {} : { 'aria-label': `${label} ${about}` }
  return h('button', { type: 'button', class: kind, disabled, onClick: onPress, ...name }, label)
}

interface ConfirmProps {
  readonly title: string
  readonly text: string
  /** what the dangerous button says */
  readonly yes: string
  readonly onYes: () => void
  readonly onNo: () => void
}

/** Asks before something that cannot be undone; Escape and the first focus are No. */
export function Confirm({ title, text, yes, onYes, onNo }: ConfirmProps): VNode {
  const dialog = useRef<HTMLDialogElement>(null)
  const id = useId()
  useEffect(() => dialog.current?.showModal(), [])
  return h(
    'dialog',
    {
      ref: dialog,
      'aria-labelledby': id,
      onCancel: event => {
        event.preventDefault()
        onNo()
      },
    },
    h('h2', { id }, title),
    h('p', {}, text),
    h(
      'div',
      { class: 'buttons question' },
      h('button', { type: 'button', autofocus: true, onClick: onNo }, 'Cancel'),
      h('button', { type: 'button', class: 'danger', onClick: onYes }, yes),
    ),
  )
}
