/**
 * What one boot leaves for the next on the disk: the seed of the key that will sign the next boot's statement, for root alone,
 * and this boot's own statements, which are public. The key of the boot before signs once, and is overwritten before anything
 * is sent. One file, replaced whole, so that a crash leaves the old state or the new one. SPEC §2.8
 */
import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { openBoot, signBoot, signProtest } from '../../protocol/control/boot.ts'
import type { LaunchTicket } from '../../protocol/control/ticket.ts'
import { equalBytes } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { bytes, bytesUpTo, generation, object, uuid, z } from '../../protocol/core/schema.ts'
import { concatSecret, copySecret, newSecret, wipe } from '../../protocol/core/secret.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { replaceFile } from '../process/replace-file.ts'
import type { BootKeys } from './boot-keys.ts'

const SEED_BYTES = 32
const LARGEST_FILE_BYTES = 16_384
/** keys of this boot that somebody else used, so that it can protest again */
const MOST_DISOWNED = 8

const statement = bytesUpTo(LIMITS.signedBytes)
const schema = object({
  version: z.literal(1),
  boot: uuid,
  generation,
  /** by the key that the boot before left; by the launch key when there is none */
  statement,
  /** by the launch key: for a broker that does not know the other's key */
  claim: statement,
  /** statements of the boots before that no broker has answered, oldest first */
  line: z.array(statement).max(LIMITS.bootLine),
  /** a broker has answered this one */
  answered: z.boolean(),
  disowned: z.array(bytes(32)).max(MOST_DISOWNED),
})
type Kept = z.output<typeof schema>

export interface BootOptions {
  /** root's only, and of this VM's disk */
  readonly stateDirectory: string
  /** kernel's id of this boot */
  readonly boot: string
  readonly ticket: Pick<LaunchTicket, 'vm' | 'launch'>
  /** Ed25519 seed that the launch secret yields (SPEC §2.3); the caller's to wipe */
  readonly launchSeed: Uint8Array
  readonly keys: Pick<BootKeys, 'dh' | 'signPublicKey'>
  randomBytes(length: number): Uint8Array
}

/** The kernel's id of this boot. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

export class BootState {
  readonly #path: string
  readonly #randomBytes: (length: number) => Uint8Array
  #kept: Kept
  #nextBoot: Uint8Array

  private constructor(path: string, options: BootOptions, kept: Kept, nextBoot: Uint8Array) {
    this.#path = path
    this.#randomBytes = length => options.randomBytes(length)
    this.#kept = kept
    this.#nextBoot = nextBoot
  }

  /**
   * The state of this boot: as an agent that ran before in it left it, else made now, with the key of the boot before or,
   * without one, with the launch key. Fails when the disk does.
   */
  static open(options: BootOptions): BootState {
    const path = join(options.stateDirectory, 'boot')
    const last = readState(path)
    try {
      if (last?.kept.boot === options.boot && isOf(options, last.kept)) {
        return new BootState(path, options, last.kept, signingPublicKey(last.seed))
      }
      return BootState.#begin(path, options, last)
    } finally {
      wipe(last?.seed)
    }
  }

  static #begin(path: string, options: BootOptions, last: { kept: Kept; seed: Uint8Array } | null): BootState {
    const { ticket, keys, boot } = options
    const seed = options.randomBytes(SEED_BYTES)
    try {
      const nextBoot = signingPublicKey(seed)
      const body = {
        version: 1 as const,
        vm: ticket.vm,
        launch: ticket.launch,
        // an agent that lost its keys within a boot is no further boot
        generation: (last?.kept.generation ?? 0) + (last?.kept.boot === boot ? 0 : 1),
        boot,
        agentDh: keys.dh.publicKey,
        agentSign: keys.signPublicKey,
        nextBoot,
      }
      const claim = signBoot(body, options.launchSeed)
      const kept = {
        version: 1 as const,
        boot,
        generation: body.generation,
        statement: last ? signBoot(body, last.seed) : claim,
        claim,
        line: last && !last.kept.answered ? [...last.kept.line, last.kept.statement].slice(-LIMITS.bootLine) : [],
        answered: false,
        disowned: [],
      }
      writeState(path, kept, seed)
      return new BootState(path, options, kept, nextBoot)
    } finally {
      wipe(seed)
    }
  }

  /** boots that this disk has counted, from 1 */
  get generation(): number {
    return this.#kept.generation
  }

  /** this boot's statement, by the key that the boot before left, or by the launch key */
  get statement(): Uint8Array {
    return this.#kept.statement
  }

  /** the same by the launch key; the very same bytes when there is no other */
  get claim(): Uint8Array {
    return this.#kept.claim
  }

  /** statements of the boots before that no broker has answered, oldest first: they lead to this one */
  get line(): readonly Uint8Array[] {
    return this.#kept.line
  }

  /** A broker has taken this boot for the VM: the boots before need not be shown any more. */
  answered(): void {
    if (!this.#kept.answered) this.#write({ ...this.#kept, answered: true, line: [] })
  }

  /** public half of the key that proves the next boot */
  get nextBoot(): Uint8Array {
    return this.#nextBoot
  }

  /**
   * Protests against a boot that says it came after this one, which runs: somebody has a copy of the key on the disk, so
   * another one takes its place. `agentSeed`: of this boot's Ed25519 key. Fails with protocol-violation when the
   * statement is not signed by a key of this boot.
   */
  protest(successor: Uint8Array, agentSeed: Uint8Array): Uint8Array {
    const { provenBy, vm } = openBoot(successor, 'protocol-violation')
    const disowned = this.#kept.disowned.some(key => equalBytes(key, provenBy))
    if (vm !== openBoot(this.#kept.claim).vm || (!disowned && !equalBytes(provenBy, this.#nextBoot))) {
      throw new MortarError('protocol-violation', 'a boot that no key of this one proves')
    }
    if (!disowned) this.#renew()
    return signProtest(successor, agentSeed)
  }

  #write(kept: Kept): void {
    const state = readState(this.#path)
    try {
      if (!state) return
      writeState(this.#path, kept, state.seed)
      this.#kept = kept
    } finally {
      wipe(state?.seed)
    }
  }

  #renew(): void {
    const seed = this.#randomBytes(SEED_BYTES)
    try {
      const disowned = [...this.#kept.disowned, this.#nextBoot].slice(-MOST_DISOWNED)
      const kept = { ...this.#kept, disowned }
      writeState(this.#path, kept, seed)
      this.#kept = kept
      this.#nextBoot = signingPublicKey(seed)
    } finally {
      wipe(seed)
    }
  }
}

/** Whether the statement is of these keys: an agent that could not keep its keys follows itself with new ones. */
function isOf({ ticket, keys }: BootOptions, { statement: signed }: Kept): boolean {
  const boot = openBoot(signed)
  return (
    boot.launch === ticket.launch &&
    equalBytes(boot.agentDh, keys.dh.publicKey) &&
    equalBytes(boot.agentSign, keys.signPublicKey)
  )
}

/** The file is the seed, then CBOR. Null without one, and when it is damaged: the boot then proves less, and the owner is asked. */
function readState(path: string): { kept: Kept; seed: Uint8Array } | null {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw thrown
  }
  const content = newSecret(LARGEST_FILE_BYTES)
  try {
    const { size } = fstatSync(file)
    if (size <= SEED_BYTES || size > LARGEST_FILE_BYTES || readSync(file, content, 0, size, 0) !== size) return null
    const kept = decodeCbor(schema, content.slice(SEED_BYTES, size), LARGEST_FILE_BYTES, 'internal')
    openBoot(kept.statement)
    return { kept, seed: copySecret(content.subarray(0, SEED_BYTES)) }
  } catch (thrown) {
    if (thrown instanceof MortarError) return null
    throw thrown
  } finally {
    wipe(content)
    closeSync(file)
  }
}

/** The seed that was there before is overwritten where it lay: freed blocks of a disk stay readable for a long time. */
function writeState(path: string, kept: Kept, seed: Uint8Array): void {
  const content = concatSecret(seed, encodeCbor(kept))
  const old = openOld(path)
  try {
    replaceFile(path, content)
    if (old === null) return
    writeSync(old, new Uint8Array(SEED_BYTES), 0, SEED_BYTES, 0)
    fsyncSync(old)
  } finally {
    wipe(content)
    if (old !== null) closeSync(old)
  }
}

function openOld(path: string): number | null {
  try {
    return openSync(path, 'r+')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw thrown
  }
}
