/** A small world of a VM, its owner and a thief as plain data, and the sockets of its agents in memory. */
import { createHash } from 'node:crypto'
import type { ControlSocket } from '../../broker/http/websocket.ts'
import type { VmRecord } from '../../broker/store/vm-store.ts'
import { launchCommitment, launchSeed } from '../../protocol/channel/derive.ts'
import type { ToAgent } from '../../protocol/control/enrolment.ts'
import { encodeBase64url, encodeHex } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'

export const VM = '11111111-1111-4111-8111-111111111111'
export const LAUNCH = '22222222-2222-4222-8222-222222222222'
export const bytesOf = (label: string) => new Uint8Array(createHash('sha256').update(label).digest())
export const ownerSeed = bytesOf('owner')
export const owner = signingPublicKey(ownerSeed)
const launchSecret = bytesOf('launch secret')
export const commitment = launchCommitment(suite, launchSecret)
export const launchSigning = launchSeed(suite, launchSecret)
export const brick = bytesOf('brick')

/** Keys by their name: `real 1`, `thief launch`. */
export function keysOf(name: string): Keys {
  const known = made.get(name)
  if (known) return known
  const seed = bytesOf(`${name} sign`)
  // only its public half is ever looked at here
  const keys = { seed, sign: signingPublicKey(seed), dh: bytesOf(`${name} dh`) }
  made.set(name, keys)
  return keys
}
type Keys = Readonly<Record<'seed' | 'sign' | 'dh', Uint8Array>>
const made = new Map<string, Keys>()

/** All that a world is, as plain data. */
export interface Snapshot {
  readonly record: VmRecord
  /** names of the boots whose agents hold a socket, in the order in which they came */
  readonly connected: readonly string[]
  /** the statement that each of them showed last, by name */
  readonly shown: Readonly<Record<string, Uint8Array>>
  /** the file that the VM's disk holds for the next boot; null: none */
  readonly disk: Uint8Array | null
  /** boots of the VM so far; the last one runs */
  readonly boots: number
  /** sets of keys that its agents made so far: one for each boot, and one each time that an agent lost its keys within a boot */
  readonly keySets: number
  /** restarts and protests that made random bytes, so that they differ */
  readonly drawn: number
  /** what the thief has: seeds by name */
  readonly loot: Readonly<Record<string, Uint8Array>>
  /** what the owner's device remembers */
  readonly known: number | null
}

export const FIRST: Snapshot = {
  record: {
    id: VM,
    name: 'lab',
    state: 'booting',
    revision: 1,
    owner: encodeBase64url(owner),
    ownerDh: encodeBase64url(bytesOf('owner dh')),
    brick: 'stone',
    brickSha256: encodeHex(brick),
    launch: LAUNCH,
    commitment: encodeBase64url(commitment),
    createdAt: '2026-01-01T00:00:00Z',
    memoryMiB: 256,
    vcpus: 1,
    failure: null,
    agent: null,
    slot: null,
    network: 'open',
    boots: [],
    waiting: [],
    deadline: null,
    certificate: null,
    formerCertificate: null,
    events: [],
  },
  connected: [],
  shown: {},
  disk: null,
  boots: 1,
  keySets: 1,
  drawn: 0,
  loot: {},
  known: null,
}

/** The end of a control socket in memory. */
export class Wire implements ControlSocket {
  readonly address = '127.0.0.1'
  readonly vm = VM
  readonly said: ToAgent[] = []
  open = true
  #message = (_text: string) => {}
  #closed = () => {}

  send = (text: string) => void this.said.push(JSON.parse(text))
  onMessage = (listener: (text: string) => void) => {
    this.#message = listener
  }
  onClosed = (listener: () => void) => {
    this.#closed = listener
  }
  close = () => {
    if (!this.open) return
    this.open = false
    this.#closed()
  }
  cut = () => this.close()
  say = (message: object) => this.#message(JSON.stringify(message))
}
