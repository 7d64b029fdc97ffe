/** Sessions at this agent: each offer becomes a data socket and, over it, an encrypted session or bytes for sshd. SPEC §4 */
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { asMortarError, type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import type { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import type { Rights } from '../../protocol/rights.ts'
import { type Handlers, serveSession } from '../../protocol/session.ts'
import type { BootData } from '../boot/boot-data.ts'
import type { BootKeys } from '../boot/boot-keys.ts'
import type { BootState } from '../boot/boot-state.ts'
import type { Offer } from '../control/connect.ts'
import { openJoined } from '../control/websocket.ts'
import type { Admission } from '../grants/grants.ts'
import type { Guest } from '../guest/guest.ts'
import { clock } from '../process/clock.ts'
import { allowOptimising, collectWhenIdle } from '../process/frugal.ts'
import { failure, type Log } from '../process/log.ts'
import { holderOf, Places, type Unproven } from './places.ts'

export interface SessionsOptions {
  readonly bootData: BootData
  readonly keys: BootKeys
  readonly boot: BootState
  readonly guest: Guest
  readonly handlers: Handlers<Guest>
  /** calls that outlive their sessions */
  readonly kept: KeptCalls
  readonly log: Log
  /** ends every session in order */
  readonly signal: AbortSignal
}

export class Sessions {
  readonly #options: SessionsOptions
  readonly #running = new Set<Promise<void>>()
  readonly #places = new Places()

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  /** Takes an offer; the result is the code to decline it with, or null. `onProven`: the owner proved an identity in it. */
  async take(offer: Offer, onProven: () => void): Promise<ErrorCode | null> {
    const { log } = this.#options
    try {
      const running = this.#begin(offer, onProven).catch(thrown =>
        log('session.failed', { session: offer.session, ...failure(thrown), refusal: refusalOf(thrown) }),
      )
      allowOptimising()
      this.#running.add(running)
      void running.finally(() => {
        this.#running.delete(running)
        collectWhenIdle()
      })
      return null
    } catch (thrown) {
      const { code } = asMortarError(thrown)
      log('session.declined', { session: offer.session, code })
      return code
    }
  }

  /** Fails at once with the code to decline the offer with. */
  #begin(offer: Offer, onProven: () => void): Promise<void> {
    const { bootData, guest, log, signal } = this.#options
    if (signal.aborted) throw new MortarError('going-away')
    if (this.#places.full) throw new MortarError('limit-exceeded', 'sessions')
    if (offer.kind === 'ssh') {
      const grantee = offer.user === encodeBase64url(bootData.ticket.owner) ? null : offer.user
      if (!guest.ssh.authorised(grantee)) throw new MortarError('ssh-not-authorised')
      const leave = this.#places.take(holderOf(grantee))
      return this.#serveSsh(offer, grantee).finally(leave)
    }
    const dropped = new AbortController()
    const place = this.#places.enter(() => {
      log('session.dropped', { session: offer.session })
      // cut, for a close in order would say that something the caller showed was wrong
      dropped.abort()
    })
    return this.#serve(offer, place, { onProven, cut: dropped.signal }).finally(() => place.leave())
  }

  /** Resolves when all sessions have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#running)
  }

  async #serve(
    offer: Offer,
    place: Unproven,
    { onProven, cut }: { onProven: () => void; cut: AbortSignal },
  ): Promise<void> {
    const { bootData, keys, boot, guest, handlers, kept, log, signal } = this.#options
    const { session } = offer
    const { ticket, launchSecret, brokerUrl } = bootData
    const ending = new AbortController()
    let admission: Admission | undefined
    try {
      await serveSession({
        transport: await openJoined(brokerUrl, offer.token, cut),
        suite: nativeSuite,
        clock,
        facts: { broker: ticket.broker, vm: ticket.vm, launch: ticket.launch, session },
        agentKeys: keys.dh,
        agentSign: keys.signPublicKey,
        ownerDh: ticket.ownerDh,
        launchSecret,
        nextBoot: () => boot.nextBoot,
        handlers,
        guest,
        kept,
        signal: AbortSignal.any([signal, ending.signal]),
        admit(caller) {
          admission = guest.grants.admit(caller, error => ending.abort(error))
          const { grantee } = admission.rights
          try {
            place.prove(holderOf(grantee))
          } catch (thrown) {
            // told in the session: hanging up would say to the owner that the key is not the owner's
            if (grantee !== null || (thrown as MortarError).code !== 'limit-exceeded') throw thrown
            ending.abort(thrown)
          }
          return admission.rights
        },
        onReady(bindingHash) {
          const grantee = admission?.rights.grantee ?? null
          void logOpened(log, session, bindingHash)
          if (grantee === null) onProven()
          if (admission) prepareRunner(guest, admission.rights)
        },
        onFault(_command, error) {
          // what was refused is between the two ends of the session
          if (error.code === 'internal') log('command.failed', { session, ...failure(error) })
        },
      })
    } finally {
      admission?.leave()
    }
    log('session.ended', { session })
  }

  async #serveSsh(offer: Offer, grantee: string | null): Promise<void> {
    const { bootData, guest, log, signal } = this.#options
    const transport = await openJoined(bootData.brokerUrl, offer.token)
    log('ssh.opened', { session: offer.session })
    const abort = () => transport.close()
    signal.addEventListener('abort', abort, { once: true })
    try {
      await guest.ssh.serve(transport, grantee)
    } catch (thrown) {
      throw thrown instanceof MortarError ? thrown : new MortarError('internal', String(thrown), { cause: thrown })
    } finally {
      signal.removeEventListener('abort', abort)
      transport.close()
    }
    log('ssh.ended', { session: offer.session })
  }
}

/** The first program of a session is not to wait until its runner is there. */
function prepareRunner({ runner, accounts }: Guest, { grantee, permissions }: Rights): void {
  if (!permissions.includes('exec') && !permissions.includes('terminal')) return
  void runner.prepare(grantee, accounts.userOf({ grantee }))
}

/** With the comparison code, which whoever sits at the VM's console may compare; the word list is loaded for it only. */
async function logOpened(log: Log, session: string, bindingHash: Uint8Array): Promise<void> {
  const { comparisonCode } = await import('../../protocol/channel/comparison.ts')
  log('session.opened', { session, words: comparisonCode(nativeSuite, bindingHash) })
}

/** Why a caller was not let in, which the other side is not told. */
function refusalOf(thrown: unknown): ErrorCode | undefined {
  const { cause } = thrown as MortarError
  return cause instanceof MortarError ? cause.code : undefined
}
