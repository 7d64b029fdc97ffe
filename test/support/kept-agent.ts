/** An agent whose kept calls outlive its sessions, and sockets that break where a test says. */
import type { Call, ClientCall } from '../../protocol/call.ts'
import { exec } from '../../protocol/commands/exec.ts'
import type { terminal } from '../../protocol/commands/terminal.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { ownerRights, type Rights } from '../../protocol/rights.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { sessionPair, wallClock } from './session-pair.ts'

export type Exec = typeof exec
export type Handler = (call: Call<Exec>) => Promise<void>
export const params = { argv: ['x'] }
export const soon = (ms = 5) => new Promise(resolve => setTimeout(resolve, ms))

/** An agent that outlives its sessions. */
export class Agent {
  readonly kept: KeptCalls
  readonly faults: [string, string][] = []
  readonly #handlers: object
  #cut = (_half: boolean) => {}

  constructor(
    handlers: { exec?: Handler; terminal?: (call: Call<typeof terminal>) => Promise<void> },
    clock = wallClock,
  ) {
    this.#handlers = handlers
    this.kept = new KeptCalls(clock)
  }

  async session(rights: Partial<Rights> = {}): Promise<ClientSession> {
    const cut = Promise.withResolvers<null>()
    let isCut = false
    const lossy = (end: Transport): Transport => ({
      ...end,
      send: packet => end.send(packet),
      // what was under way when the socket broke arrives nowhere
      receive: async () => {
        const packet = await end.receive()
        return isCut ? null : packet
      },
    })
    const deaf = (end: Transport): Transport => ({
      ...end,
      receive: () => Promise.race([end.receive(), cut.promise]),
      close() {},
    })
    const pair = await sessionPair({
      handlers: this.#handlers,
      kept: this.kept,
      admit: () => ({ ...ownerRights(['exec', 'terminal']), ...rights }),
      through: (client, agent) => [deaf(lossy(client)), lossy(agent)],
    })
    this.#cut = half => {
      isCut = true
      cut.resolve(null)
      if (!half) pair.agentEnd.close()
    }
    return pair.session
  }

  /** Breaks the socket of the last session. */
  cut(): void {
    this.#cut(false)
  }

  /** The client notices, the agent does not. */
  cutHalf(): void {
    this.#cut(true)
  }
}

/** ids given out so far */
let ids = 0
export const newId = () => new Uint8Array(16).fill(++ids)
export const lastId = () => new Uint8Array(16).fill(ids)
export function keptCall(command: Exec, onLost: () => void = () => {}): KeptClientCall<Exec> {
  const id = newId()
  return new KeptClientCall({ command, params, id, clock: wallClock, onLost, onOver() {} })
}

/** Begins a call whose session is renewed whenever it breaks. */
export async function lasting(agent: Agent): Promise<ClientCall<Exec>> {
  let session = await agent.session()
  const kept = keptCall(exec, () => void again())
  const again = async () => {
    session = await agent.session()
    // the next cut may have come already, and then onLost comes for nobody
    await session.attach(kept).catch(() => again())
  }
  await session.attach(kept)
  return kept.call
}

/** Echoes stdin on stdout, and says so on stderr for each piece. */
export const echo: Handler = async call => {
  call.accept({})
  let bytes = 0
  for await (const item of call.received()) {
    if (item.type === 'message') {
      if (item.name === 'eof') break
      continue
    }
    bytes += item.bytes.length
    await call.write(item.bytes, 0)
    await call.write(Uint8Array.of(item.bytes.length % 256), 1)
  }
  call.post('exit', { code: bytes % 256, signal: null })
}
