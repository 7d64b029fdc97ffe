/**
 * Grants at this agent: who but the owner gets in, up to when, and who no longer does. A revocation takes back everything that was
 * signed so far to a grantee, seen here or not: it makes a mark that later grants must name. SPEC §2.7, §9.6
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Ready, ToClientBody } from '../../protocol/commands/command.ts'
import type { grantList, grantRevoke } from '../../protocol/commands/grants.ts'
import { checkGrantTime, type Grant, openGrant } from '../../protocol/control/grant.ts'
import type { Permission } from '../../protocol/control/roles.ts'
import type { LaunchTicket } from '../../protocol/control/ticket.ts'
import { decodeBase64url, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { type Clock, callAt } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { grantRights, ownerRights, type Rights } from '../../protocol/rights.ts'
import type { Caller } from '../../protocol/session.ts'
import { GrantBook, TAKEN_BACK } from './grant-book.ts'

/** ms until what could not be withdrawn is tried again */
const RETRY_MS = 5_000

export interface GrantsOptions {
  readonly stateDirectory: string
  readonly ticket: Pick<LaunchTicket, 'vm' | 'owner'>
  readonly config: { readonly features: readonly Permission[] }
  readonly clock: Clock
  /** Before a grantee is let in for the first time, or again. What it fails with keeps the grantee out. */
  onEntering(grant: Grant): void
  /** a grantee is let in, and what the last grant gave has been taken back */
  onEntered(grant: Grant): void
  /**
   * A grantee has lost rights: takes back what was handed out under the old ones and ends what the grantee started. Resolves with
   * whether it is certain that nothing of it goes on.
   */
  onWithdrawn(grantee: string): Promise<boolean>
}

/** A session that is let in: how it is ended when its grant no longer holds. */
export interface Admission {
  readonly rights: Rights
  /** the session is over */
  leave(): void
}

export type Revoked = Ready<typeof grantRevoke>
export type KnownGrant = ToClientBody<typeof grantList, 'known'>[number]

interface Open {
  readonly grantee: string
  readonly serial: number
  end(error: MortarError): void
}

export class Grants {
  readonly #options: GrantsOptions
  readonly #book: GrantBook
  readonly #open = new Set<Open>()
  /** by grantee who has no session: stops waiting for the end of what they started */
  readonly #waiting = new Map<string, () => void>()

  /** Fails with internal when what is kept on disk is damaged. */
  constructor(options: GrantsOptions) {
    this.#options = options
    this.#book = new GrantBook(join(options.stateDirectory, 'grants.json'))
  }

  /** To be called once what earlier agents left is known: ends what should have ended meanwhile. */
  resume(): void {
    for (const [grantee] of this.#book.all()) this.#wait(grantee)
  }

  /**
   * Lets a caller in; `end` ends the session when its grant expires, is revoked or replaced. Fails with grant-invalid,
   * grant-expired or grant-revoked.
   */
  admit(caller: Caller, end: (error: MortarError) => void): Admission {
    const { features } = this.#options.config
    if (caller.kind === 'owner') return { rights: ownerRights(features), leave() {} }
    // who cannot be shut out again is not let in
    if (!features.includes('users')) throw new MortarError('grant-invalid', 'this brick takes no grants')
    const grant = this.#check(caller)
    const grantee = encodeBase64url(grant.grantee)
    const known = this.#book.get(grantee)
    if ((known?.mark ?? null) !== (grant.after ? encodeBase64url(grant.after) : null)) {
      throw new MortarError('grant-revoked', `serial ${grant.serial} does not name the last revocation`)
    }
    const least = known?.taken?.serial ?? 0
    if (grant.serial < least) throw new MortarError('grant-revoked', `serial ${grant.serial}, at least ${least}`)
    // keeps the file small; an owner who gets here launches another VM
    if (!known && this.#book.size >= LIMITS.grantees) {
      throw new MortarError('limit-exceeded', `${LIMITS.grantees} grantees`)
    }
    this.#options.onEntering(grant)
    const rights = grantRights(grant, features)
    if (!known?.taken || grant.serial > least) this.#take(grantee, grant, rights.endsMs)
    else if (known.ends !== rights.endsMs) this.#book.set(grantee, { ...known, ends: rights.endsMs })
    this.#book.keep()
    this.#options.onEntered(grant)
    return this.#enter({ grantee, serial: grant.serial, end }, rights)
  }

  /**
   * Takes back all that was signed to the grantee so far and ends its sessions. Resolves once the disk has it and what the
   * grantee started has ended, or is not known to have; the answer says which, and what there was.
   */
  async revoke(grantee: Uint8Array): Promise<Revoked> {
    const name = encodeBase64url(grantee)
    const before = this.#book.get(name)
    const mark = new Uint8Array(randomBytes(16))
    // where no more grantees fit, one that never got in never will
    if (before || this.#book.size < LIMITS.grantees) {
      this.#book.set(name, { mark: encodeBase64url(mark), taken: null, ends: TAKEN_BACK })
    }
    const open = this.#end(name, Number.POSITIVE_INFINITY)
    // a full disk keeps neither the sessions nor the programs alive, and no revocation from being told as failed
    const kept = capture(() => this.#book.keep())
    const programsEnded = await this.#withdraw(name)
    kept()
    return { mark, serial: before?.taken?.serial ?? null, sessions: open, programsEnded }
  }

  /** The grantees that this VM has let in or shut out, the earliest first. */
  known(): KnownGrant[] {
    return this.#book.all().map(([grantee, { mark, taken }]) => ({
      grantee: decodeBase64url(grantee),
      mark: mark === null ? null : decodeBase64url(mark),
      taken,
      sessions: [...this.#open].filter(open => open.grantee === grantee).length,
    }))
  }

  #check({ dh, grant: signed }: Extract<Caller, { kind: 'grantee' }>): Grant {
    const { ticket, clock } = this.#options
    const grant = openGrant(signed, ticket.owner)
    if (grant.vm !== ticket.vm) throw new MortarError('grant-invalid', `for VM ${grant.vm}`)
    if (!equalBytes(grant.granteeDh, dh))
      throw new MortarError('grant-invalid', 'for another key than the caller proved')
    checkGrantTime(grant, clock.now())
    return grant
  }

  #enter(open: Open, rights: Rights): Admission {
    const { grantee } = open
    this.#open.add(open)
    this.#stopWaiting(grantee)
    const expire = () => {
      open.end(new MortarError('grant-expired'))
      this.#withdrawAlone(grantee)
    }
    const cancel = callAt(this.#options.clock, rights.endsMs ?? 0, expire)
    return {
      rights,
      leave: () => {
        cancel()
        this.#open.delete(open)
        if (![...this.#open].some(other => other.grantee === grantee)) this.#wait(grantee)
      },
    }
  }

  /** Has what a grantee started end with the grant, though there is no session. */
  #wait(grantee: string): void {
    const ends = this.#book.get(grantee)?.ends ?? null
    if (ends === null) return
    this.#stopWaiting(grantee)
    const withdraw = () => this.#withdrawAlone(grantee)
    if (ends <= this.#options.clock.now()) withdraw()
    else this.#waiting.set(grantee, callAt(this.#options.clock, ends, withdraw))
  }

  #stopWaiting(grantee: string): void {
    this.#waiting.get(grantee)?.()
    this.#waiting.delete(grantee)
  }

  /** Takes back what was handed out. Resolves with true when all of it is known to have ended; then it is not looked for again. */
  async #withdraw(grantee: string): Promise<boolean> {
    const before = this.#book.get(grantee)
    const ended = await this.#options.onWithdrawn(grantee)
    const now = this.#book.get(grantee)
    // otherwise let in again meanwhile
    if (!now || now.ends === null || now.ends !== before?.ends || now.mark !== before.mark) return ended
    this.#stopWaiting(grantee)
    if (ended) {
      this.#book.set(grantee, { ...now, ends: null })
      // a full disk makes the next agent end what has ended
      capture(() => this.#book.keep())
    } else {
      // what kept it from ending may pass
      this.#waiting.set(
        grantee,
        this.#options.clock.after(RETRY_MS, () => this.#withdrawAlone(grantee)),
      )
    }
    return ended
  }

  /** Takes it back where nobody waits to be told. */
  #withdrawAlone(grantee: string): void {
    this.#withdraw(grantee).catch(() => undefined)
  }

  /** A grant is in force from now on; what came under a lower serial ends. */
  #take(grantee: string, { serial, role, permissions, expires }: Grant, ends: number | null): void {
    const before = this.#book.get(grantee)
    const since = Math.floor(this.#options.clock.now() / 1000)
    this.#book.set(grantee, { mark: before?.mark ?? null, taken: { serial, role, permissions, expires, since }, ends })
    if (!before?.taken) return
    this.#end(grantee, serial)
    // it was replaced, not revoked: nobody waits to be told, and programs of the new one wait for the end of the old one's
    this.#options.onWithdrawn(grantee).catch(() => undefined)
  }

  /** Ends the sessions of the grantee below a serial; how many there were. */
  #end(grantee: string, below: number): number {
    const ending = [...this.#open].filter(open => open.grantee === grantee && open.serial < below)
    for (const open of ending) {
      this.#open.delete(open)
      open.end(new MortarError('grant-revoked'))
    }
    return ending.length
  }
}

/** Does it now; what it fails with is thrown when the returned function is called. */
function capture(work: () => void): () => void {
  try {
    work()
  } catch (thrown) {
    return () => {
      throw thrown
    }
  }
  return () => {}
}
