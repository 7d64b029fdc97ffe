/** The broker's configuration: a TOML file whose unknown keys are refused. */
import { readFileSync } from 'node:fs'
import { isIPv4, isIPv6 } from 'node:net'
import { parse, TomlError } from 'smol-toml'
import { parseIdentity } from '../protocol/control/login.ts'
import { decodeBase64url, encodeBase64url } from '../protocol/core/bytes.ts'
import { MortarError } from '../protocol/core/errors.ts'
import { base64urlOf, object, z } from '../protocol/core/schema.ts'
import { parseSubnet, type Subnet } from './network/plan.ts'

function isAddress(textual: string): boolean {
  const [, four, six, port] = /^(?:([\d.]+)|\[([0-9a-f:]+)\]):(\d{1,5})$/.exec(textual) ?? []
  return (isIPv4(four ?? '') || isIPv6(six ?? '')) && Number(port) <= 65_535
}
const origin = z.string().refine(textual => URL.canParse(textual) && new URL(textual).origin === textual, {
  error: 'needs a web origin: scheme and host, no path, no slash at the end',
})
const identity = z.string().transform((textual, context) => {
  try {
    return encodeBase64url(parseIdentity(textual).sign)
  } catch {
    context.addIssue('needs a public identity (mortar1…), as `mortar identity show` prints it')
    return z.NEVER
  }
})

const configSchema = object({
  /** bricks, overlays, drives and the database live here; QEMU's user must be able to enter it */
  data_dir: z.string().startsWith('/', 'needs an absolute path').default('/var/lib/mortar/broker'),
  /** HTTP API and WebSockets; put a TLS proxy before it to serve other machines */
  listen: z.string().refine(isAddress, 'needs ADDRESS:PORT').default('127.0.0.1:7766'),
  /** jump host for `ssh -J`; empty for none */
  ssh_listen: z
    .string()
    .refine(textual => textual === '' || isAddress(textual), 'needs ADDRESS:PORT, or "" for none')
    .default('127.0.0.1:7722'),
  /** how VMs are joined to the broker, and to nothing else: by a bridge of its own, or by QEMU's user networking */
  network: z.enum(['isolated', 'user'], { error: 'needs "isolated" or "user"' }).default('isolated'),
  /** IPv4 network of the bridge; by default one of 10.128.0.0/9 that follows from the broker's key */
  subnet: z
    .string()
    .refine(textual => parseSubnet(textual) !== undefined, 'needs an IPv4 network, ADDRESS/20 to ADDRESS/28')
    .optional(),
  /** where agents are taken; by default port 7767 of the bridge's address, or of 127.0.0.1 for user networking */
  agent_listen: z.string().refine(isAddress, 'needs ADDRESS:PORT').optional(),
  /** whether the memory of VMs is locked; by default where KVM is */
  lock_memory: z.boolean({ error: 'needs true or false' }).optional(),
  /** web origins of consoles that may call the API */
  origins: z.array(origin).max(32).default([]),
  users: z.array(identity).max(10_000).default([]),
  administrators: z.array(identity).max(100).default([]),
  /** Ed25519 keys whose bricks may be imported, base64url */
  builders: z.array(base64urlOf(32)).max(100).default([]),
  /** seconds from start to enrolment before a VM counts as failed */
  enrol_within_seconds: z.int().min(1).max(86_400).default(300),
  libvirt_socket: z.string().startsWith('/', 'needs an absolute path').optional(),
})
type ConfigFile = z.output<typeof configSchema>

export interface Config {
  readonly dataDir: string
  readonly listen: Address
  readonly sshListen: Address | null
  readonly network: 'isolated' | 'user'
  /** undefined: where KVM is */
  readonly locksMemory: boolean | undefined
  readonly subnet: Subnet | undefined
  readonly agentListen: Address | undefined
  readonly origins: readonly string[]
  /** Ed25519 keys, base64url */
  readonly users: ReadonlySet<string>
  readonly administrators: ReadonlySet<string>
  readonly builders: readonly Uint8Array[]
  readonly enrolWithinMs: number
  readonly libvirtSocket: string | undefined
}

export interface Address {
  readonly host: string
  readonly port: number
}

const UNREADABLE: Readonly<Record<string, string>> = {
  ENOENT: 'is not there',
  EISDIR: 'is a folder',
  EACCES: 'may not be read by this user',
}

/** Reads the file, or gives the defaults without one. Fails with config-missing, or bad-config naming file, line and key. */
export function readConfig(path: string | undefined): Config {
  if (path === undefined) return toConfig(configSchema.parse({}))
  let source: string
  try {
    source = readFileSync(path, 'utf8')
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new MortarError('config-missing', `${path} ${UNREADABLE[code ?? ''] ?? message}`, { cause })
  }
  return toConfig(checkConfig(source, path))
}

function checkConfig(source: string, path: string): ConfigFile {
  let value: unknown
  try {
    value = parse(source)
  } catch (cause) {
    const where = cause instanceof TomlError ? `:${cause.line}` : ''
    const why = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : ''
    throw new MortarError('bad-config', `${path}${where}: ${why}`, { cause })
  }
  const checked = configSchema.safeParse(value)
  if (checked.success) return checked.data
  const [issue] = checked.error.issues
  const [key, index] = issue?.code === 'unrecognized_keys' ? issue.keys : (issue?.path ?? [])
  const escaped = String(key).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  const pattern = new RegExp(`^\\s*(\\[+\\s*)?["']?${escaped}["']?\\s*[=.\\]]`)
  const line = source.split('\n').findIndex(text => pattern.test(text)) + 1
  const why = issue ? wordsOf(issue) : ''
  throw new MortarError(
    'bad-config',
    `${path}${line > 0 ? `:${line}` : ''}: ${String(key)}${typeof index === 'number' ? `[${index}]` : ''}: ${why}`,
  )
}

const NEEDS: Readonly<Record<string, string>> = {
  string: 'needs text in quotation marks',
  array: 'needs a list: […]',
  int: 'needs a whole number',
  number: 'needs a number',
}

/** What is wrong with a value, in plain words; the schema's own where it has some. */
function wordsOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'unrecognized_keys':
      return 'there is no such key'
    case 'invalid_type':
      return NEEDS[issue.expected] ?? `needs ${issue.expected}`
    case 'too_small':
      return `must be at least ${issue.minimum}`
    case 'too_big':
      if (issue.origin === 'string') return 'is too long'
      return issue.origin === 'array' ? `has more than ${issue.maximum} entries` : `must be at most ${issue.maximum}`
    default:
      return issue.message
  }
}

function toConfig(file: ConfigFile): Config {
  return {
    dataDir: file.data_dir,
    listen: parseAddress(file.listen),
    sshListen: file.ssh_listen === '' ? null : parseAddress(file.ssh_listen),
    network: file.network,
    subnet: file.subnet === undefined ? undefined : parseSubnet(file.subnet),
    agentListen: file.agent_listen === undefined ? undefined : parseAddress(file.agent_listen),
    origins: file.origins,
    users: new Set(file.users),
    administrators: new Set(file.administrators),
    builders: file.builders.map(decodeBase64url),
    locksMemory: file.lock_memory,
    enrolWithinMs: file.enrol_within_seconds * 1000,
    libvirtSocket: file.libvirt_socket,
  }
}

function parseAddress(textual: string): Address {
  const colon = textual.lastIndexOf(':')
  return { host: textual.slice(0, colon).replace(/[[\]]/g, ''), port: Number(textual.slice(colon + 1)) }
}
