/** What people would not have the host read, as values that can be found again: one for each place of a command. */
import type { Command } from '../../protocol/commands/command.ts'
import { COMMANDS, type CommandName } from '../../protocol/commands/index.ts'
import { encodeBase64url, encodeHex, encodeText } from '../../protocol/core/bytes.ts'

const WORD = 'kanarienvogel'

export class Canaries {
  readonly #forms = new Map<string, string>()
  #count = 0

  /** A word of lower-case letters and digits, which every text of a command takes. `where`: said when it is found again. */
  text(where: string): string {
    const canary = `${WORD}${this.#count++}q`
    this.#forms.set(canary, where)
    return canary
  }

  /** So many bytes that are looked for as text, in hexadecimal and in base64. */
  bytes(where: string, length: number): Uint8Array {
    const bytes = new Uint8Array(length).fill(0x2e)
    bytes.set(encodeText(this.text(where)).subarray(0, length))
    const pieces = [
      encodeHex(bytes).slice(0, 24),
      encodeBase64url(bytes).slice(0, 16),
      Buffer.from(bytes).toString('base64'),
    ]
    for (const form of pieces) this.#forms.set(form, where)
    return bytes
  }

  /** Looks for this text too. */
  form(where: string, text: string): void {
    this.#forms.set(text, where)
  }

  /** Twenty hexadecimal digits, as serials of drives are. */
  serial(where: string): string {
    const serial = encodeHex(encodeText(`${(this.#count++ + 1000).toString()}serial`)).slice(0, 20)
    this.#forms.set(serial, where)
    return serial
  }

  uuid(where: string): string {
    const uuid = crypto.randomUUID()
    this.#forms.set(uuid, where)
    return uuid
  }

  /** Where the canaries come from that a text holds. */
  foundIn(text: string): string[] {
    return [...new Set([...this.#forms].filter(([form]) => text.includes(form)).map(([, where]) => where))]
  }

  get count(): number {
    return this.#forms.size
  }
}

const sshKey = (canaries: Canaries, where: string) => {
  const blob = encodeText(`\0\0\0\x0bssh-ed25519\0\0\0 ${canaries.text(where).padEnd(32, '-')}`)
  const textual = Buffer.from(blob).toString('base64')
  canaries.form(where, textual)
  return `ssh-ed25519 ${textual}`
}

type Params = Readonly<Record<string, unknown>>

/** For each command, parameters that are proper and full of canaries; a new command has no row and does not compile. */
export const PARAMS: Readonly<Record<CommandName, (canaries: Canaries) => Params>> = {
  info: () => ({}),
  exec: canaries => ({
    argv: [`/usr/bin/${canaries.text('exec argv[0]')}`, `--token=${canaries.text('exec argv')}`],
    env: { [canaries.text('exec env name')]: canaries.text('exec env value') },
    cwd: `/tmp/${canaries.text('exec cwd')}`,
    user: canaries.text('exec user'),
  }),
  terminal: canaries => ({
    cols: 80,
    rows: 24,
    user: canaries.text('terminal user'),
    term: canaries.text('terminal term'),
  }),
  'drive-format': canaries => ({
    drive: canaries.uuid('drive-format drive'),
    serial: canaries.serial('drive-format serial'),
    label: canaries.text('drive-format label').slice(0, 16),
    erase: true,
  }),
  'drive-unlock': canaries => ({
    drive: canaries.uuid('drive-unlock drive'),
    serial: canaries.serial('drive-unlock serial'),
    headerDigest: canaries.bytes('drive-unlock digest', 32),
    mountName: canaries.text('drive-unlock mount name'),
    readOnly: false,
    user: canaries.text('drive-unlock user'),
  }),
  'drive-lock': canaries => ({
    drive: canaries.uuid('drive-lock drive'),
    serial: canaries.serial('drive-lock serial'),
  }),
  'drive-list': () => ({}),
  ssh: canaries => ({
    userKey: sshKey(canaries, 'ssh key'),
    user: canaries.text('ssh user'),
    validSeconds: 60,
  }),
  'grant-revoke': canaries => ({ grantee: canaries.bytes('grant-revoke grantee', 32) }),
  'grant-list': () => ({}),
  'exec-list': () => ({}),
}

/** Ways in which a call of a command can be made so that it is refused, at another depth each. */
export const BENDS: Readonly<Record<string, (params: Params, canaries: Canaries, name: string) => Params>> = {
  'proper parameters': params => params,
  'a member that is not known': (params, canaries, name) => ({
    ...params,
    [canaries.text(`${name}: member`)]: canaries.text(`${name}: its value`),
  }),
  'members of another type': (params, canaries, name) =>
    Object.fromEntries(Object.keys(params).map(key => [key, { [canaries.text(`${name}: ${key} as map`)]: 1 }])),
  'text that breaks lines': (params, canaries, name) =>
    Object.fromEntries(
      Object.entries(params).map(([key, value]) => [
        key,
        typeof value === 'string' ? `${value}\n${canaries.text(`${name}: ${key} after a break`)}` : value,
      ]),
    ),
}

/** A command as the client library knows it, sent whatever its parameters are. */
export const commandNamed = (name: string): Command => ({ ...COMMANDS.info, name }) as unknown as Command
