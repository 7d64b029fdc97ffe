/** The people of a machine under test: homes and identities, made by the command `mortar`. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { accountOf } from '../../protocol/control/account.ts'
import { parseIdentity } from '../../protocol/control/login.ts'
import { runProgram } from './program.ts'

export interface Person {
  readonly name: string
  readonly home: string
  readonly identityPath: string
  /** public identity, mortar1… */
  readonly identity: string
}

export type People = Readonly<Record<'owner' | 'administrator' | 'other', Person>>

/** Makes them below `folder`; `client`: the command. */
export async function newPeople(folder: string, client: string): Promise<People> {
  return {
    owner: await newPerson(folder, client, 'owner'),
    administrator: await newPerson(folder, client, 'administrator'),
    other: await newPerson(folder, client, 'other'),
  }
}

async function newPerson(folder: string, client: string, name: string): Promise<Person> {
  const home = join(folder, name)
  await mkdir(home, { mode: 0o700 })
  const identityPath = join(home, 'identity')
  const env = { HOME: home, MORTAR_IDENTITY: identityPath }
  const { code, stdout, stderr } = await runProgram(client, ['--json', 'identity', 'create', '--no-passphrase'], {
    env,
  })
  if (code !== 0) throw new Error(`identity create ended with ${code}: ${stderr}`)
  const { identity } = JSON.parse(stdout) as { identity: string }
  return { name, home, identityPath, identity }
}

/** The person's account in VMs. */
export function accountNameOf({ identity }: Person): string {
  return accountOf(parseIdentity(identity).sign).name
}
