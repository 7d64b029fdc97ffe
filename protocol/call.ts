/** A command in a stream, its shapes checked both ways: `Call` is the agent's half, `ClientCall` the client's. SPEC §8 */
import type {
  Command,
  Params,
  Ready,
  ToAgentBody,
  ToAgentName,
  ToClientBody,
  ToClientName,
  WhenFull,
} from './commands/command.ts'
import type { Clock } from './core/clock.ts'
import { decodeCbor, encodeCbor } from './core/codec.ts'
import { asMortarError, type ErrorCode, MortarError } from './core/errors.ts'
import { LIMITS } from './core/limits.ts'
import { bytes, object, uint, z } from './core/schema.ts'
import { wipe } from './core/secret.ts'
import type { HeldLog } from './kept/held-log.ts'
import { KeptStream } from './kept/kept-stream.ts'
import type { CallStream, Gap } from './mux/call-stream.ts'
import type { Item } from './mux/inbox.ts'
import type { Mux } from './mux/mux.ts'
import { encodeMessage, type Stream } from './mux/stream.ts'
import type { Rights } from './rights.ts'
import { offerSecret, type SealContext, type SecretOffer, sealToOffer } from './secret-offer.ts'

/** id of a kept call */
const keptId = bytes(16)
/** what OPEN carries: a command, kept if it has an id; or the id of a kept call and what the client has received of it. SPEC §8, §8.2 */
export const openingSchema = z.union([
  object({ command: z.string().max(64), params: z.unknown(), keep: keptId.optional() }),
  object({ attach: keptId, received: uint() }),
])
const messageSchema = z.tuple([z.string().max(64), z.unknown()])

type Data = { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
type Message<Name extends string, Body> = { readonly type: 'message'; readonly name: Name; readonly body: Body }

export type FromClient<C extends Command> =
  | Data
  | { [N in ToAgentName<C>]: Message<N, ToAgentBody<C, N>> }[ToAgentName<C>]
export type FromAgent<C extends Command> =
  | Data
  /** of a kept call only, when it may drop what nobody fetched */
  | (C extends { readonly kept: 'drop' } ? Gap : never)
  | { [N in ToClientName<C>]: Message<N, ToClientBody<C, N>> }[ToClientName<C>]

export interface KeptAs {
  readonly id: Uint8Array
  readonly whenFull: WhenFull
  readonly lasts: boolean
}

/** The agent's half: what a handler gets. */
export interface Call<C extends Command> {
  readonly params: Params<C>
  /** the caller's, which allow this call */
  readonly rights: Rights
  /** aborted when the client is gone or reset the stream */
  readonly signal: AbortSignal
  /** the id under which it is kept, and what it does when nobody reads; null: it ends with its session */
  readonly keptAs: KeptAs | null
  /**
   * Accepts, with an empty map, and sends what a log holds instead of anything else; in a kept call whenever a client is
   * there. Resolves when all is sent, a kept call when its client has it. Fails with what the call failed with.
   */
  follow(log: HeldLog): Promise<void>
  /** Accepts; comes before anything else that is sent. */
  accept(body: Ready<C>): void
  post<N extends ToClientName<C>>(name: N, body: ToClientBody<C, N>): void
  /** Sends data; resolves once the client's window took it. Lane 0 unless given. */
  write(bytes: Uint8Array, lane?: number): Promise<void>
  /** What the client sends, until it half-closes; credit goes back as items are taken. Fails when the stream was reset. */
  received(): AsyncGenerator<FromClient<C>, void, undefined>
  /** The one secret of a command that takes one; the handler wipes it. Fails with protocol-violation when something else comes, with timeout when nothing does in time. */
  secret(): Promise<Uint8Array>
}

/** The client's half. */
export interface ClientCall<C extends Command> {
  /** what ACCEPT carried */
  readonly ready: Ready<C>
  readonly signal: AbortSignal
  post<N extends ToAgentName<C>>(name: N, body: ToAgentBody<C, N>): void
  write(bytes: Uint8Array): Promise<void>
  /** Seals the secret to the agent's offer, sends it in a record of its own, and wipes it. Once per call. */
  sendSecret(secret: Uint8Array): Promise<void>
  end(): void
  reset(code: ErrorCode): void
  /** What the agent sends, until its END; the stream is over then. Fails with the agent's code after a reset. */
  received(): AsyncGenerator<FromAgent<C>, void, undefined>
}

/** `params`: as authorise() returned them; `opening`: the body of OPEN, in which they came. */
export function handlerCall<C extends Command>(
  command: C,
  stream: CallStream,
  {
    opening,
    rights,
    params,
    context,
    keptAs,
  }: {
    opening: Uint8Array
    rights: Rights
    params: Params<C>
    /** absent for a command that takes no secret */
    context?: SealContext
    keptAs: KeptAs | null
  },
): Call<C> {
  const items = stream.items()
  let offer: SecretOffer | undefined
  return {
    params,
    rights,
    signal: stream.signal,
    keptAs,
    follow: log => (stream instanceof KeptStream ? stream.follow(log, {}) : sendAll(stream, log)),
    accept(body) {
      if (!command.takesSecret || !context) return stream.accept(body as Readonly<Record<string, unknown>>)
      offer = offerSecret(context, opening, () => stream.reset('timeout'))
      stream.signal.addEventListener('abort', () => offer?.wipe(), { once: true })
      if (stream.signal.aborted) offer.wipe()
      stream.accept({ ready: body, offer: offer.publicKey })
    },
    post: (name, body) => stream.post(encodeMessage(name, body)),
    write: (bytes, lane) => stream.write(bytes, lane),
    received: () => typed(items, command.toAgent) as AsyncGenerator<FromClient<C>, void, undefined>,
    secret: async () => {
      const { value: item } = await items.next()
      try {
        if (item?.type !== 'secret' || !offer) throw new MortarError('protocol-violation', 'no secret came')
        return await offer.open(item.bytes)
      } finally {
        if (item?.type === 'secret') wipe(item.bytes)
      }
    },
  }
}

/** A stream that the agent accepted, with its reader and what ACCEPT carried. */
export interface Accepted {
  readonly stream: Stream
  readonly items: AsyncGenerator<Item, void, undefined>
  readonly answer: Uint8Array
}

/** Waits for ACCEPT in a stream that was just opened. Fails with the agent's code. */
export async function accepted(stream: Stream, clock: Clock): Promise<Accepted> {
  const items = stream.items()
  const cancel = clock.after(LIMITS.acceptMs, () => stream.reset('timeout'))
  const { value: first } = await items.next().finally(cancel)
  if (first?.type === 'accept') return { stream, items, answer: first.body }
  stream.reset('protocol-violation')
  throw new MortarError('protocol-violation', 'the agent did not accept')
}

/** Sends what a log holds, in a stream that ends with its session; what was taken by the stream is released. */
async function sendAll(stream: CallStream, log: HeldLog): Promise<void> {
  stream.accept({})
  const reader = await log.open(0)
  let position = reader.from
  for (let piece = await reader.next(); piece; piece = await reader.next()) {
    if (piece.type === 'data') await stream.write(piece.bytes, piece.lane)
    else stream.post(piece.body)
    position += piece.type === 'data' ? piece.bytes.length : 1
    log.release(position)
  }
}

/** Opens a stream for a command and waits for ACCEPT. Fails with the agent's code. */
export async function clientCall<C extends Command>(
  mux: Mux,
  command: C,
  params: Params<C>,
  context: SealContext,
): Promise<ClientCall<C>> {
  const opening = encodeCbor({ command: command.name, params })
  const { stream, items, answer } = await accepted(mux.openStream(opening), context.clock)
  const { ready, offer } = await refusing(stream, () => readAccept(command, answer))
  return clientHalf(command, stream, {
    items,
    ready: ready as Ready<C>,
    async sendSecret(secret) {
      try {
        if (!offer) throw new MortarError('internal', `${command.name} takes no secret`)
        stream.sendSecret(await sealToOffer(context, opening, offer, secret))
      } finally {
        wipe(secret)
      }
    },
  })
}

/** The client's half over a stream that is accepted. */
export function clientHalf<C extends Command>(
  command: C,
  stream: CallStream,
  half: Pick<ClientCall<C>, 'ready' | 'sendSecret'> & { items: AsyncGenerator<Item | Gap, void, undefined> },
): ClientCall<C> {
  return {
    ready: half.ready,
    signal: stream.signal,
    post: (name, body) => stream.post(encodeMessage(name, body), command.latest?.includes(name) ? name : undefined),
    write: bytes => stream.write(bytes),
    sendSecret: half.sendSecret,
    end: () => stream.end(),
    reset: code => stream.reset(code),
    async *received() {
      const received = typed(half.items, command.toClient, command.kept) as AsyncGenerator<
        FromAgent<C>,
        void,
        undefined
      >
      for (;;) {
        const { value, done } = await refusing(stream, () => received.next())
        if (done) break
        yield value
      }
      stream.end()
    },
  }
}

/** ACCEPT of a command that takes a secret carries the key to seal it to. SPEC §7.4 */
function readAccept(command: Command, body: Uint8Array): { ready: unknown; offer?: Uint8Array } {
  const read = <S extends z.ZodType>(schema: S) => decodeCbor(schema, body, LIMITS.messageBytes, 'protocol-violation')
  return command.takesSecret ? read(object({ ready: command.ready, offer: bytes(32) })) : { ready: read(command.ready) }
}

/** What `take` gives; a failure of it ends the stream at the other end too. */
async function refusing<T>(stream: CallStream, take: () => T | Promise<T>): Promise<T> {
  try {
    return await take()
  } catch (thrown) {
    stream.reset(asMortarError(thrown).code)
    throw thrown
  }
}

/** Items as data and checked messages. Fails with protocol-violation for anything the command does not know. */
async function* typed(
  items: AsyncGenerator<Item | Gap, void, undefined>,
  messages: Readonly<Record<string, z.ZodType>>,
  kept?: Command['kept'],
) {
  // not a for-of over `items`: leaving that would end the stream's one reader
  for (;;) {
    const { value: item, done } = await items.next()
    if (done) return
    if (item.type === 'data') yield item
    else if (item.type === 'gap') {
      if (kept !== 'drop') throw new MortarError('truncated', `${item.count} bytes were dropped`)
      yield item
    } else if (item.type === 'message') {
      const [name, body] = decodeCbor(messageSchema, item.body, LIMITS.messageBytes, 'protocol-violation')
      const schema = Object.hasOwn(messages, name) ? messages[name] : undefined
      const checked = schema?.safeParse(body)
      if (!checked?.success) throw new MortarError('protocol-violation', `message ${name}`)
      yield { type: 'message', name, body: checked.data }
    } else {
      if (item.type === 'secret') wipe(item.bytes)
      throw new MortarError('protocol-violation', item.type)
    }
  }
}
