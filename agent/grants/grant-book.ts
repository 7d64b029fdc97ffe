/** What an agent remembers of grants, on disk, so that a restart or a reboot brings no old grant back. SPEC §2.7 */
import { readFileSync } from 'node:fs'
import { grantInForce } from '../../protocol/commands/grants.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { base64urlOf, object, uint, z } from '../../protocol/core/schema.ts'
import { replaceFile } from '../process/replace-file.ts'

const entry = object({
  /** the mark that a grant must name; null: the grantee was never revoked here */
  mark: base64urlOf(16).nullable(),
  /** null: none was taken since the last revocation */
  taken: grantInForce.nullable(),
  /**
   * ms since 1970 at which what the grantee started ends, whether or not they are connected; TAKEN_BACK: it was to end, and
   * not all of it is known to have ended; null: nothing of theirs runs
   */
  ends: uint().nullable(),
})
const schema = object({ version: z.literal(2), grantees: z.record(base64urlOf(32), entry) })

/** in place of the end of a grant that was taken back */
export const TAKEN_BACK = 0

export type GrantEntry = z.output<typeof entry>

export class GrantBook {
  readonly #path: string
  readonly #entries: Map<string, GrantEntry>
  /** false while the disk does not have what #entries says */
  #kept = true

  /** Fails with internal when the file is damaged: without it revoked grants would come back. */
  constructor(path: string) {
    this.#path = path
    this.#entries = read(path)
  }

  get size(): number {
    return this.#entries.size
  }

  /** `grantee`: Ed25519 key, base64url, here and below. */
  get(grantee: string): GrantEntry | undefined {
    return this.#entries.get(grantee)
  }

  all(): [string, GrantEntry][] {
    return [...this.#entries]
  }

  /** Holds from now on, whatever becomes of the disk; keep() puts it there. */
  set(grantee: string, changed: GrantEntry): void {
    this.#entries.set(grantee, changed)
    this.#kept = false
  }

  /** Returns once the disk has everything. */
  keep(): void {
    if (this.#kept) return
    replaceFile(this.#path, JSON.stringify({ version: 2, grantees: Object.fromEntries(this.#entries) }))
    this.#kept = true
  }
}

function read(path: string): Map<string, GrantEntry> {
  let json: string
  try {
    json = readFileSync(path, 'utf8')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return new Map()
    throw thrown
  }
  try {
    return new Map(Object.entries(schema.parse(JSON.parse(json)).grantees))
  } catch (cause) {
    throw new MortarError('internal', `${path} is damaged`, { cause })
  }
}
