/**
 * A session: one authorised client at one agent. The channel, the multiplexer over it, and commands in its streams.
 * openSession is the client's entry, serveSession the agent's. SPEC §8
 */
import { type Call, type ClientCall, clientCall, handlerCall, openingSchema } from './call.ts'
import {
  type AgentKeys,
  type Caller,
  type Contact,
  SecureChannel,
  type SessionFacts,
} from './channel/secure-channel.ts'
import type { KeyPair, Suite } from './channel/suite.ts'
import type { Command, Params } from './commands/command.ts'
import { COMMANDS, type CommandName } from './commands/index.ts'
import type { Clock } from './core/clock.ts'
import { decodeCbor, encodeCbor } from './core/codec.ts'
import { asMortarError, MortarError } from './core/errors.ts'
import { LIMITS } from './core/limits.ts'
import { bytes, object, z } from './core/schema.ts'
import type { Transport } from './core/transport.ts'
import type { KeptCall, KeptCalls } from './kept/kept-calls.ts'
import type { CallStream } from './mux/call-stream.ts'
import { Mux } from './mux/mux.ts'
import type { Stream } from './mux/stream.ts'
import { authorise, type Rights } from './rights.ts'
import type { SealContext } from './secret-offer.ts'

export type { AgentKeys, Caller, Contact, SessionFacts }

interface SessionOptions {
  readonly transport: Transport
  readonly suite: Suite
  readonly clock: Clock
  readonly facts: SessionFacts
}

const readySchema = object({
  version: z.literal(1),
  commands: z.array(z.string().max(64)).max(64),
  /** to the owner alone: the key that proves the next boot (SPEC §2.8) */
  nextBoot: bytes(32).optional(),
})

export interface ClientSession {
  /** names of the commands that the agent offers */
  readonly commands: readonly string[]
  /** public half of the key that will prove the agent's next boot, which the agent tells its owner; 32 bytes */
  readonly nextBoot: Uint8Array | undefined
  /** transcript hash of the handshake, 32 bytes; comparison.ts makes words of it */
  readonly bindingHash: Uint8Array
  /** Opens a stream for a command; resolves at ACCEPT, fails with the agent's code otherwise. */
  open<C extends Command>(command: C, params: Params<C>): Promise<ClientCall<C>>
  /** Begins a kept call, or takes it up again. Fails with the agent's code, call-unknown, connection-lost. SPEC §8.2 */
  attach(call: { attachTo(mux: Mux): Promise<void> }): Promise<void>
  /** Ends the session in order. */
  close(): void
  /** whether it has ended; true before what was open in it fails */
  readonly over: boolean
  /** Resolves when the session has ended; with the error unless it ended in order. */
  readonly closed: Promise<MortarError | undefined>
}

export interface ClientSessionOptions extends SessionOptions {
  readonly ownerKeys: KeyPair
  readonly agent: AgentKeys
  readonly contact: Contact
  readonly grant?: Uint8Array
}

/**
 * Opens a session; resolves once the agent's READY has opened, which proves the agent. `grant`: signed, from anybody but
 * the owner, at known contact. Fails with handshake, agent-key-mismatch, owner-mismatch, grant-invalid, timeout,
 * connection-lost.
 */
export async function openSession(options: ClientSessionOptions): Promise<ClientSession> {
  const channel = await SecureChannel.open(options)
  const { suite, clock, facts } = options
  const context = { suite, clock, bindingHash: channel.bindingHash, vm: facts.vm }
  const ready = Promise.withResolvers<z.output<typeof readySchema>>()
  const mux = new Mux({
    transport: channel,
    clock: options.clock,
    onReady: body => ready.resolve(decodeCbor(readySchema, body, LIMITS.messageBytes, 'protocol-violation')),
  })
  const closed = mux.run().then(
    () => undefined,
    (error: MortarError) => error,
  )
  void closed.then(error => ready.reject(error ?? new MortarError('going-away')))
  const cancel = options.clock.after(LIMITS.handshakeMs, () => mux.goAway('timeout'))
  try {
    const { commands, nextBoot } = await ready.promise
    return {
      commands,
      nextBoot,
      bindingHash: channel.bindingHash,
      closed,
      get over() {
        return mux.over
      },
      close: () => mux.goAway(),
      open: (command, params) => clientCall(mux, command, params, context),
      attach: call => call.attachTo(mux),
    }
  } catch (thrown) {
    mux.goAway()
    // the agent (or who poses as it) could not make a record under the keys that only the right one has
    const error = asMortarError(thrown)
    if (error.code === 'record-invalid') throw new MortarError('agent-key-mismatch', '', { cause: error })
    throw error.code === 'connection-lost' && channel.hungUp ? refusalOf(options) : error
  } finally {
    cancel()
  }
}

/**
 * What it means that the VM hung up after the client's last word of the handshake, which it does without saying why. With
 * a known agent message 2 has proven its key, so it is the caller whom it did not take.
 */
function refusalOf({ contact, grant }: { contact: Contact; grant?: Uint8Array }): MortarError {
  if (contact.kind === 'first') return new MortarError('agent-key-mismatch', 'it hung up when shown the launch secret')
  if (!grant) return new MortarError('owner-mismatch', 'the VM hung up when shown your key')
  return new MortarError('grant-invalid', 'the VM hung up when shown it; it may be revoked or replaced')
}

/** One handler for each command. A MortarError it throws becomes the reset's code, anything else `internal`; the stream ends when it returns. */
export type Handlers<Guest> = {
  readonly [N in CommandName]: (call: Call<(typeof COMMANDS)[N]>, guest: Guest) => Promise<void>
}

export interface ServeOptions<Guest> extends SessionOptions {
  readonly agentKeys: KeyPair
  /** the agent's Ed25519 key, 32 bytes */
  readonly agentSign: Uint8Array
  readonly ownerDh: Uint8Array
  readonly launchSecret: Uint8Array
  /** the key that proves the next boot, 32 bytes, which the owner is told; may be another from session to session */
  nextBoot?(): Uint8Array
  readonly handlers: Handlers<Guest>
  readonly guest: Guest
  /** calls that outlive their session; absent: none does */
  readonly kept?: KeptCalls
  /** Decides what a caller may do; whom it throws at is not let in, and not told why. */
  admit(caller: Caller): Rights
  /** the caller is proven and READY is sent; with the transcript hash, which comparison.ts makes words of */
  onReady?(bindingHash: Uint8Array): void
  /** ends the session: in order, or with the code of the MortarError that is the reason; streams are reset */
  readonly signal?: AbortSignal
  /** a handler failed: for the local log */
  onFault?(command: string, error: MortarError): void
}

/** Serves a client until its session ends. Fails with handshake, timeout, or what broke the session. */
export async function serveSession<Guest>(options: ServeOptions<Guest>): Promise<void> {
  let admitted: Rights | undefined
  const admit = (caller: Caller) => {
    admitted = options.admit(caller)
  }
  const channel = await SecureChannel.accept({ ...options, admit })
  const rights = admitted as Rights | undefined
  if (!rights) throw new MortarError('internal', 'nobody was admitted')
  const { suite, clock, facts } = options
  const context = { suite, clock, bindingHash: channel.bindingHash, vm: facts.vm }
  let running = 0
  const mux = new Mux({
    transport: channel,
    clock: options.clock,
    onOpen(stream, body) {
      // a stream that was reset is closed at once, what it started may take a while to end
      if (running >= LIMITS.streams) return stream.reset('limit-exceeded')
      running++
      serveStream(options, { rights, context }, stream, body)
        // no stream may end the agent, whatever went wrong in telling what went wrong in it
        .catch(() => stream.reset('internal'))
        .finally(() => running--)
    },
  })
  const offered = Object.values(COMMANDS).filter(command => rights.permissions.includes(command.permission))
  const nextBoot = rights.grantee === null ? options.nextBoot?.() : undefined
  const commands = offered.map(command => command.name)
  mux.sendReady(encodeCbor({ version: 1, commands, ...(nextBoot && { nextBoot }) }))
  options.onReady?.(channel.bindingHash)
  const leave = () => {
    const { reason } = options.signal ?? {}
    mux.goAway(reason instanceof MortarError ? reason.code : undefined)
  }
  options.signal?.addEventListener('abort', leave, { once: true })
  if (options.signal?.aborted) leave()
  try {
    await mux.run()
  } finally {
    options.signal?.removeEventListener('abort', leave)
  }
}

async function serveStream<Guest>(
  options: ServeOptions<Guest>,
  { rights, context }: { rights: Rights; context: SealContext },
  stream: Stream,
  body: Uint8Array,
): Promise<void> {
  let name = ''
  let carrier: CallStream = stream
  let kept: KeptCall | undefined
  try {
    const opening = decodeCbor(openingSchema, body, LIMITS.messageBytes, 'bad-request')
    if ('attach' in opening) {
      await options.kept?.found(rights.grantee)
      return takeUp(options.kept, rights, stream, opening)
    }
    if (!Object.hasOwn(COMMANDS, opening.command)) throw new MortarError('unknown-command')
    name = opening.command
    const command: Command = COMMANDS[name as CommandName]
    const params = authorise(rights, command, opening.params)
    if (opening.keep) {
      if (!options.kept) throw new MortarError('bad-request', 'no call is kept here')
      kept = options.kept.start(opening.keep, rights, { command, params: opening.params })
      kept.stream.attach(stream, 0)
      carrier = kept.stream
    }
    const keptAs = kept && command.kept ? { id: kept.id, whenFull: command.kept, lasts: kept.lasts } : null
    const call = handlerCall(command, carrier, { opening: body, rights, params, context, keptAs })
    // the table of handlers has the call's type by its key; one cast here instead of one in every handler
    const handler = options.handlers[name as CommandName] as unknown as (
      call: Call<Command>,
      guest: Guest,
    ) => Promise<void>
    await handler(call, options.guest)
    carrier.end()
    carrier.discard()
  } catch (thrown) {
    const error = asMortarError(thrown)
    options.onFault?.(name, error)
    carrier.reset(error.code)
  } finally {
    kept?.done()
  }
}

/**
 * Goes on with a call that an earlier agent kept, by what is left of its handler. `rights`: those under which a client may
 * come for it are asked again when one comes.
 */
export async function resumeCall<C extends Command>(
  kept: KeptCall,
  rights: Rights,
  resume: (call: Call<C>) => Promise<void>,
): Promise<void> {
  const { stream, command } = kept
  const call = handlerCall(command as C, stream, {
    opening: new Uint8Array(),
    rights,
    params: kept.params as Params<C>,
    keptAs: null,
  })
  try {
    await resume(call)
    stream.end()
    stream.discard()
  } catch (thrown) {
    stream.reset(asMortarError(thrown).code)
  } finally {
    kept.done()
  }
}

/** A client that lost its session takes its call up again; it needs the rights that the call needed when it began. SPEC §8.2 */
function takeUp(
  kept: KeptCalls | undefined,
  rights: Rights,
  stream: Stream,
  { attach, received }: { attach: Uint8Array; received: number },
): void {
  const call = kept?.find(attach, rights)
  if (!kept || !call) throw new MortarError('call-unknown')
  authorise(rights, call.command, call.params)
  call.stream.attach(stream, received)
  kept.taken(call)
}
