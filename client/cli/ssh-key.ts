/** `mortar ssh-key`: the keys that may log in at the broker's jump host as you. */
import { readFile } from 'node:fs/promises'
import type { SshKey } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { table, time } from './output.ts'
import type { Action } from './subcommand.ts'

const HEADING = ['NAME', 'TYPE', 'FINGERPRINT', 'ADDED']
const LONGEST_LINE = 800

const row = (key: SshKey) => [key.name, key.type, key.fingerprint, time(key.addedAt)]

export const list: Action = async context => {
  const keys = await (await context.broker()).sshKeys()
  return { json: { keys }, text: table(HEADING, keys.map(row)) }
}

export const add: Action = async (context, given) => {
  const key = await (await context.broker()).registerSshKey(await readPublicKey(given.operand(0)))
  return { json: { key }, text: table(HEADING, [row(key)]) }
}

export const remove: Action = async (context, given) => {
  const broker = await context.broker()
  const key = pick(await broker.sshKeys(), given.operand(0))
  await broker.removeSshKey(key.id)
  return { json: { removed: key }, text: `removed ${key.fingerprint}; connections that it had logged in are ended` }
}

/** The first line of a public key file. A private key is not sent anywhere. Fails with usage. */
async function readPublicKey(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(cause => {
    throw new MortarError('usage', `${path} cannot be read`, { cause })
  })
  const [line = ''] = text.trim().split('\n')
  const isPublic = /^[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?$/.test(line) && line.length <= LONGEST_LINE
  if (!isPublic) throw new MortarError('usage', `${path} is not an OpenSSH public key; the file of one ends in .pub`)
  return line
}

/** By fingerprint, or by name. Fails with not-found, or bad-request when several have the name. */
function pick(keys: readonly SshKey[], wanted: string): SshKey {
  const found = keys.filter(key => key.fingerprint === wanted || key.id === wanted)
  const [key, ...others] = found.length > 0 ? found : keys.filter(({ name }) => name === wanted)
  if (!key) throw new MortarError('not-found', `SSH key ${wanted}`)
  if (others.length > 0) throw new MortarError('bad-request', `several keys are named ${wanted}; give the fingerprint`)
  return key
}
