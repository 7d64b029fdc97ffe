/**
 * Grants at this agent: who but the owner gets in, up to when, and who no longer does. The lowest serial that is still
 * taken from each grantee is kept on disk, so that a restart or a reboot brings no old grant back. SPEC §2.7
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkGrantTime, type Grant, openGrant } from '../protocol/control/grant.ts'
import type { Permission } from '../protocol/control/roles.ts'
import type { LaunchTicket } from '../protocol/control/ticket.ts'
import { encodeBase64url, equalBytes } from '../protocol/core/bytes.ts'
import { type Clock, callAt } from '../protocol/core/clock.ts'
import { MortarError } from '../protocol/core/errors.ts'
import { LIMITS } from '../protocol/core/limits.ts'
import { base64urlOf, object, uint, z } from '../protocol/core/schema.ts'
import { grantRights, ownerRights, type Rights } from '../protocol/rights.ts'
import type { Caller } from '../protocol/session.ts'
import { replaceFile } from './replace-file.ts'

const schema = object({
  version: z.literal(1),
  least: z.record(base64urlOf(32), uint()),
  ends: z.record(base64urlOf(32), uint()).default({}),
})

/** in place of the end of a grant: it was taken back, and not all that runs under it is known to have ended */
const TAKEN_BACK = 0

export interface GrantsOptions {
  readonly stateDirectory: string
  readonly ticket: Pick<LaunchTicket, 'vm' | 'owner'>
  readonly config: { readonly features: readonly Permission[]; readonly defaultUser: string }
  readonly clock: Clock
  /** a grantee has lost rights: takes back what was handed out under the old ones, and resolves once it is */
  onWithdrawn(grantee: string): Promise<void>
}

/** A session that is let in: how it is ended when its grant no longer holds. */
export interface Admission {
  readonly rights: Rights
  /** the session is over */
  leave(): void
}

interface Open {
  readonly grantee: string
  readonly serial: number
  end(error: MortarError): void
}

export class Grants {
  readonly #options: GrantsOptions
  readonly #path: string
  /** by grantee (base64url): the lowest serial that is taken */
  readonly #least: Map<string, number>
  /** by grantee: ms since 1970 at which what they started ends, whether or not they are connected; or TAKEN_BACK */
  readonly #ends: Map<string, number>
  /** by grantee who has no session: stops waiting for that end */
  readonly #waiting = new Map<string, () => void>()
  readonly #open = new Set<Open>()
  /** false while the disk does not have what #least says */
  #kept = true

  /** Fails with internal when the file is damaged: without it revoked grants would come back. */
  constructor(options: GrantsOptions) {
    this.#options = options
    this.#path = join(options.stateDirectory, 'grants.json')
    const { least, ends } = read(this.#path)
    this.#least = new Map(Object.entries(least))
    this.#ends = new Map(Object.entries(ends))
  }

  /** To be called once what earlier agents left is known: ends what should have ended meanwhile. */
  resume(): void {
    for (const grantee of [...this.#ends.keys()]) this.#wait(grantee)
  }

  /**
   * Lets a caller in; `end` ends the session when its grant expires, is revoked or replaced. Fails with grant-invalid,
   * grant-expired or grant-revoked.
   */
  admit(caller: Caller, end: (error: MortarError) => void): Admission {
    const { features, defaultUser } = this.#options.config
    if (caller.kind === 'owner') return { rights: ownerRights(features), leave() {} }
    // who cannot be shut out again is not let in
    if (!features.includes('users')) throw new MortarError('grant-invalid', 'this brick takes no grants')
    const grant = this.#check(caller)
    const grantee = encodeBase64url(grant.grantee)
    const least = this.#least.get(grantee) ?? 0
    if (grant.serial < least) throw new MortarError('grant-revoked', `serial ${grant.serial}, at least ${least}`)
    // keeps the file small; an owner who gets here launches another VM
    if (least === 0 && this.#least.size >= LIMITS.grantees) {
      throw new MortarError('limit-exceeded', `${LIMITS.grantees} grantees`)
    }
    const rights = grantRights(grant, features, defaultUser)
    // what runs under the old one ends beside; programs of the new one wait for that
    if (grant.serial > least) this.#raise(grantee, grant.serial, rights.endsMs).catch(() => undefined)
    else if (!this.#kept || this.#ends.get(grantee) !== rights.endsMs) {
      this.#ends.set(grantee, rights.endsMs ?? TAKEN_BACK)
      this.#keep()
    }
    return this.#enter({ grantee, serial: grant.serial, end }, rights)
  }

  /**
   * Refuses the grantee's grants up to `serial` from now on and ends the sessions they opened. Resolves once the disk has
   * it and all that was handed out is taken back.
   */
  async revoke(grantee: Uint8Array, serial: number): Promise<void> {
    const name = encodeBase64url(grantee)
    if (serial + 1 > (this.#least.get(name) ?? 0)) return this.#raise(name, serial + 1, TAKEN_BACK)
    if (!this.#kept) this.#keep()
    // what did not end then is tried again
    if (this.#ends.get(name) === TAKEN_BACK) await this.#withdraw(name)
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
      this.#withdraw(grantee).catch(() => undefined)
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
    const endsMs = this.#ends.get(grantee)
    if (endsMs === undefined) return
    this.#stopWaiting(grantee)
    const withdraw = () => void this.#withdraw(grantee).catch(() => undefined)
    if (endsMs <= this.#options.clock.now()) withdraw()
    else this.#waiting.set(grantee, callAt(this.#options.clock, endsMs, withdraw))
  }

  #stopWaiting(grantee: string): void {
    this.#waiting.get(grantee)?.()
    this.#waiting.delete(grantee)
  }

  /** Takes back what was handed out, and forgets that it was to be once that is done. */
  async #withdraw(grantee: string): Promise<void> {
    const endsMs = this.#ends.get(grantee)
    await this.#options.onWithdrawn(grantee)
    // let in again meanwhile
    if (this.#ends.get(grantee) !== endsMs) return
    this.#stopWaiting(grantee)
    if (this.#ends.delete(grantee)) this.#keep()
  }

  /** What came under a lower serial ends, even when the disk is full and the new one cannot be kept. */
  #raise(grantee: string, least: number, endsMs: number | null): Promise<void> {
    this.#least.set(grantee, least)
    this.#ends.set(grantee, endsMs ?? TAKEN_BACK)
    for (const open of [...this.#open]) {
      if (open.grantee === grantee && open.serial < least) open.end(new MortarError('grant-revoked'))
    }
    const withdrawn = endsMs === TAKEN_BACK ? this.#withdraw(grantee) : this.#options.onWithdrawn(grantee)
    withdrawn.catch(() => undefined)
    this.#keep()
    return withdrawn
  }

  #keep(): void {
    this.#kept = false
    const content = JSON.stringify({
      version: 1,
      least: Object.fromEntries(this.#least),
      ends: Object.fromEntries(this.#ends),
    })
    replaceFile(this.#path, content)
    this.#kept = true
  }
}

function read(path: string): Pick<z.output<typeof schema>, 'least' | 'ends'> {
  let json: string
  try {
    json = readFileSync(path, 'utf8')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return { least: {}, ends: {} }
    throw thrown
  }
  try {
    return schema.parse(JSON.parse(json))
  } catch (cause) {
    throw new MortarError('internal', `${path} is damaged`, { cause })
  }
}
