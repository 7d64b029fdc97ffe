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
  homes: z
    .string()
    .regex(/^\/[^:\n]+$/, 'needs an absolute folder')
    .default('/home'),
  features: z.array(z.enum(PERMISSIONS)).default([]),
})

export interface AgentConfig {
  /** the folder of the homes of people's accounts, in which only root may make anything */
  readonly homes: string
  /** what anybody may use, the owner too; absent means denied. Words that no command needs, such as those kept for later, switch nothing */
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
  return checked.data
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
