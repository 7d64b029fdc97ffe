/**
 * The agent's configuration, /etc/mortar/agent.toml: written by the brick's builder, read once. What it does not list among
 * its features the agent refuses, so that a file that is missing or cut short opens nothing.
 */
import { readFileSync } from 'node:fs'
import { parse, TomlError } from 'smol-toml'
import { PERMISSIONS, type Permission } from '../protocol/control/roles.ts'
import { MortarError } from '../protocol/core/errors.ts'
import { object, z } from '../protocol/core/schema.ts'
import { CONFIG_PATH } from './config-path.ts'

const schema = object({
  default_user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$/, 'needs a user name')
    .default('researcher'),
  features: z.array(z.enum(PERMISSIONS)).default([]),
})

export interface AgentConfig {
  /** who commands, terminals and SSH run as when the caller names nobody */
  readonly defaultUser: string
  /** what anybody may use, the owner too; absent means denied */
  readonly features: readonly Permission[]
}

/** Reads a configuration text. Fails with bad-config naming the line or the key. */
export function parseConfig(toml: string, name: string): AgentConfig {
  let value: unknown
  try {
    value = parse(toml)
  } catch (cause) {
    const line = cause instanceof TomlError ? `:${cause.line}` : ''
    throw new MortarError('bad-config', `${name}${line}: not TOML`, { cause })
  }
  const checked = schema.safeParse(value)
  if (!checked.success) {
    const issue = checked.error.issues[0]
    const key = issue?.code === 'unrecognized_keys' ? issue.keys.join(', ') : issue?.path.join('.')
    throw new MortarError('bad-config', `${name}: ${key}: ${issue?.message}`)
  }
  return { defaultUser: checked.data.default_user, features: checked.data.features }
}

/** Reads the file; what is absent, the file too, has its default. Fails with bad-config. */
export function readConfig(path = CONFIG_PATH): AgentConfig {
  try {
    return parseConfig(readFileSync(path, 'utf8'), path)
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return parseConfig('', path)
    if (thrown instanceof MortarError) throw thrown
    throw new MortarError('bad-config', `${path} cannot be read`, { cause: thrown })
  }
}
