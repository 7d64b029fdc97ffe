/** What the page knows: one value, changed by set(), drawn anew by whoever uses it. */

import type { Drive, Vm } from '../../protocol/control/api.ts'
import { asMortarError, type MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { Brick, BrokerApi, BrokerInfo, Role } from '../broker/api.ts'
import type { Identity } from '../identity/identity.ts'
import { useEffect, useState } from './preact.ts'

export interface Login {
  /** in memory only; wiped at log-out */
  readonly identity: Identity
  readonly broker: BrokerApi
  readonly role: Role
  readonly info: BrokerInfo
}

/** The page's session with one VM. */
export type Connection =
  | { readonly stage: 'awaited' }
  | { readonly stage: 'connecting' }
  /** lost: its socket broke, it connects again */
  | {
      readonly stage: 'open'
      readonly session: ClientSession
      readonly contact: 'first' | 'known'
      readonly lost?: boolean
    }
  | { readonly stage: 'ended'; readonly error: MortarError | undefined }

export interface Notice {
  readonly number: number
  /** an error, or what was done and who says so */
  readonly about: MortarError | string
}

export interface State {
  readonly login: Login | null
  /** null until the broker answered for the first time */
  readonly vms: readonly Vm[] | null
  readonly drives: readonly Drive[]
  readonly bricks: readonly Brick[]
  /** why the lists may be old */
  readonly trouble: MortarError | null
  /** by VM id */
  readonly connections: Readonly<Record<string, Connection>>
  /** what belongs to no form on the page, or to one that is gone */
  readonly notices: readonly Notice[]
}

const EMPTY: State = { login: null, vms: null, drives: [], bricks: [], trouble: null, connections: {}, notices: [] }
const MOST_NOTICES = 5

let state = EMPTY
let notices = 0
const listeners = new Set<() => void>()

export const current = (): State => state

export function set(change: Partial<State>): void {
  state = { ...state, ...change }
  for (const listener of listeners) listener()
}

/** Forgets all but the notices, which say why. */
export const reset = (): void => set({ ...EMPTY, notices: state.notices })

/** The state, in a component. */
export function useMortar(): State {
  const [seen, see] = useState(state)
  useEffect(() => {
    const look = () => see(state)
    listeners.add(look)
    // it may have changed since the drawing
    look()
    return () => {
      listeners.delete(look)
    }
  }, [])
  return seen
}

export function setConnection(vm: string, connection: Connection | undefined): void {
  const { [vm]: _, ...others } = state.connections
  set({ connections: connection ? { ...others, [vm]: connection } : others })
}

/** Shows an error at the top of the page until it is dismissed. */
export function report(thrown: unknown): void {
  const error = asMortarError(thrown)
  if (state.notices.some(({ about }) => typeof about !== 'string' && about.message === error.message)) return
  add(error)
}

/** Shows what was done, and who says so, in the same place. */
export function tell(says: string): void {
  add(says)
}

function add(about: Notice['about']): void {
  set({ notices: [...state.notices, { number: ++notices, about }].slice(-MOST_NOTICES) })
}

export function dismiss(number: number): void {
  set({ notices: state.notices.filter(notice => notice.number !== number) })
}
