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

const schema = object({ version: z.literal(1), least: z.record(base64urlOf(32), uint()) })

export interface GrantsOptions {
  readonly stateDirectory: string
  readonly ticket: Pick<LaunchTicket, 'vm' | 'owner'>
  readonly config: { readonly features: readonly Permission[] }
  readonly clock: Clock
  /** Before a grantee is let in for the first time, or again. What it fails with keeps the grantee out. */
  onEntering(grant: Grant): void
  /** a grantee is let in, and what the last grant gave has been taken back */
  onEntered(grant: Grant): void
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
  readonly #open = new Set<Open>()
  /** false while the disk does not have what #least says */
  #kept = true

  /** Fails with internal when the file is damaged: without it revoked grants would come back. */
  constructor(options: GrantsOptions) {
    this.#options = options
    this.#path = join(options.stateDirectory, 'grants.json')
    this.#least = readLeast(this.#path)
  }

  /** Keys (base64url) of all grantees that were let in or shut out, the earliest first. */
  get known(): readonly string[] {
    return [...this.#least.keys()]
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
    const least = this.#least.get(grantee) ?? 0
    if (grant.serial < least) throw new MortarError('grant-revoked', `serial ${grant.serial}, at least ${least}`)
    // keeps the file small; an owner who gets here launches another VM
    if (least === 0 && this.#least.size >= LIMITS.grantees) {
      throw new MortarError('limit-exceeded', `${LIMITS.grantees} grantees`)
    }
    this.#options.onEntering(grant)
    // what runs under the old one ends beside; programs of the new one wait for that
    if (grant.serial > least) this.#raise(grantee, grant.serial).catch(() => undefined)
    else if (!this.#kept) this.#keep()
    this.#options.onEntered(grant)
    return this.#enter({ grantee, serial: grant.serial, end }, grantRights(grant, features))
  }

  /**
   * Refuses the grantee's grants up to `serial` from now on and ends the sessions they opened. Resolves once the disk has
   * it and all that was handed out is taken back.
   */
  async revoke(grantee: Uint8Array, serial: number): Promise<void> {
    const name = encodeBase64url(grantee)
    if (serial + 1 > (this.#least.get(name) ?? 0)) await this.#raise(name, serial + 1)
    else if (!this.#kept) this.#keep()
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
    this.#open.add(open)
    const expire = () => open.end(new MortarError('grant-expired'))
    const cancel = callAt(this.#options.clock, rights.endsMs ?? 0, expire)
    return {
      rights,
      leave: () => {
        cancel()
        this.#open.delete(open)
      },
    }
  }

  /** What came under a lower serial ends, even when the disk is full and the new one cannot be kept. */
  #raise(grantee: string, least: number): Promise<void> {
    this.#least.set(grantee, least)
    for (const open of [...this.#open]) {
      if (open.grantee === grantee && open.serial < least) open.end(new MortarError('grant-revoked'))
    }
    const withdrawn = this.#options.onWithdrawn(grantee)
    withdrawn.catch(() => undefined)
    this.#keep()
    return withdrawn
  }

  #keep(): void {
    this.#kept = false
    replaceFile(this.#path, JSON.stringify({ version: 1, least: Object.fromEntries(this.#least) }))
    this.#kept = true
  }
}

function readLeast(path: string): Map<string, number> {
  let json: string
  try {
    json = readFileSync(path, 'utf8')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return new Map()
    throw thrown
  }
  try {
    return new Map(Object.entries(schema.parse(JSON.parse(json)).least))
  } catch (cause) {
    throw new MortarError('internal', `${path} is damaged`, { cause })
  }
}
