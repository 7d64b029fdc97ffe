/** Where the page is, kept in the address behind #, which no server sees: the broker and the VM looked at. */
import { useEffect, useState } from './preact.ts'

const DEFAULT_BROKER = 'http://127.0.0.1:7766'

export interface Route {
  readonly broker: string
  /** id of the VM looked at, or null on the overview */
  readonly vm: string | null
}

function parameters(): URLSearchParams {
  return new URLSearchParams(location.hash.slice(1))
}

export function route(): Route {
  const found = parameters()
  return { broker: found.get('broker') ?? DEFAULT_BROKER, vm: found.get('vm') }
}

/** The address of the overview (null) or a VM, for links. */
export function linkTo(vm: string | null): string {
  const next = parameters()
  if (vm) next.set('vm', vm)
  else next.delete('vm')
  return `#${next}`
}

export function goTo(vm: string | null): void {
  location.hash = linkTo(vm)
}

/** Keeps the broker in the address, so that a reload asks for the same one. */
export function rememberBroker(url: string): void {
  const next = parameters()
  next.set('broker', url)
  history.replaceState(null, '', `#${next}`)
}

export function useRoute(): Route {
  const [seen, see] = useState(route)
  useEffect(() => {
    const look = () => see(route())
    addEventListener('hashchange', look)
    return () => removeEventListener('hashchange', look)
  }, [])
  return seen
}
