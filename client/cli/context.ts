/** What every subcommand is given: the global options, and identity, broker and host, made when first asked for. */
import { dirname, join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import type { BrokerApi } from '../broker/api.ts'
import { wallClock } from '../host/clock.ts'
import type { Host } from '../host/host.ts'
import type { Identity } from '../identity/identity.ts'
import { Progress, size } from './output.ts'

export interface Globals {
  /** address of the broker */
  readonly broker: string
  /** path of the identity file */
  readonly identity: string
  readonly passphraseFile: string | undefined
  readonly json: boolean
  readonly quiet: boolean
}

export class Context {
  readonly globals: Globals
  readonly progress: Progress
  #identity: Promise<Identity> | undefined
  #broker: Promise<BrokerApi> | undefined

  constructor(globals: Globals) {
    this.globals = globals
    const silent = globals.json || globals.quiet
    this.progress = new Progress(wallClock, silent ? null : line => process.stderr.write(line))
  }

  /** Folder of the identity, where known brokers and SSH files lie too. */
  get folder(): string {
    return dirname(this.globals.identity)
  }

  get sshFolder(): string {
    return join(this.folder, 'ssh')
  }

  async host(): Promise<Host> {
    return (await import('../node/host.ts')).nodeHost
  }

  /** The identity, its passphrase asked for once. Fails with identity-missing, identity-locked, identity-exposed. */
  identity(): Promise<Identity> {
    this.#identity ??= this.#readIdentity()
    return this.#identity
  }

  async #readIdentity(): Promise<Identity> {
    const { readIdentityFile } = await import('../node/keystore.ts')
    const { suite } = await import('../node/suite.ts')
    return readIdentityFile(suite, this.globals.identity, () => this.passphrase())
  }

  /** The passphrase from --passphrase-file or the terminal; the caller wipes it. Fails with identity-locked. */
  async passphrase(): Promise<Uint8Array> {
    if (this.globals.passphraseFile) {
      return (await import('../node/keystore.ts')).readPassphraseFile(this.globals.passphraseFile)
    }
    return (await import('./passphrase.ts')).askPassphrase(`Passphrase of ${this.globals.identity}: `)
  }

  /** The broker's API as this identity. */
  broker(): Promise<BrokerApi> {
    this.#broker ??= this.#openBroker()
    return this.#broker
  }

  async #openBroker(): Promise<BrokerApi> {
    const { BrokerApi } = await import('../broker/api.ts')
    const { pinsInFile } = await import('../node/known-brokers.ts')
    const pins = pinsInFile(join(this.folder, 'known-brokers.json'))
    const { knownVmsInFile } = await import('../node/known-vms.ts')
    const knownVms = knownVmsInFile(join(this.folder, 'known-vms.json'))
    const during = <T>(text: string, work: Promise<T>) => this.progress.duringStep(text, work)
    return new BrokerApi({ url: this.globals.broker, identity: await this.identity(), pins, knownVms, during })
  }

  /** Forgets the secrets it holds. */
  async close(): Promise<void> {
    const identity = await this.#identity?.catch(() => undefined)
    identity?.wipe()
  }
}

/** Runs `use` with a secret and wipes it. */
export async function withSecret<T>(
  secret: Uint8Array | undefined,
  use: (secret: Uint8Array | undefined) => Promise<T>,
): Promise<T> {
  try {
    return await use(secret)
  } finally {
    wipe(secret)
  }
}

const LONGEST_SECONDS = 10 * 366 * 86_400

/** Seconds of `90m`, `12h`, `7d` or `3600`, from one second to ten years. Fails with usage. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})([smhd]?)$/.exec(text.trim())
  const seconds = Number(match?.[1]) * ({ s: 1, m: 60, h: 3600, d: 86_400 }[match?.[2] ?? ''] ?? 1)
  if (seconds >= 1 && seconds <= LONGEST_SECONDS) return seconds
  throw new MortarError('usage', `"${text}" is not a time such as 12h or 7d`)
}

/** Number of bytes of `64M`, `1G` or `1000`. Fails with usage, also below `least` and above `most` (bytes). */
export function parseSize(text: string, least: number, most: number): number {
  const match = /^(\d{1,15})(?:([KMGT])(?:i?B)?|B)?$/i.exec(text.trim())
  if (!match) throw new MortarError('usage', `"${text}" is not a size such as 64M or 1G`)
  const bytes = Number(match[1]) * 1024 ** ' KMGT'.indexOf((match[2] ?? ' ').toUpperCase())
  if (bytes >= least && bytes <= most) return bytes
  const wrong = bytes < least ? 'small' : 'large'
  throw new MortarError('usage', `${text} is too ${wrong}; a drive has ${size(least)} to ${size(most)}`)
}
