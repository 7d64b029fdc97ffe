/** `mortar identity`: makes the identity file and prints the public identity. */
import { MortarError } from '../../protocol/core/errors.ts'
import { Identity } from '../identity/identity.ts'
import { createIdentityFile, identityExists } from '../node/keystore.ts'
import { suite } from '../node/suite.ts'
import { type Context, withSecret } from './context.ts'
import { askNewPassphrase } from './passphrase.ts'
import type { Action, Outcome } from './subcommand.ts'

export const create: Action = async (context, given) => {
  const path = context.globals.identity
  // asked before the passphrase is: nobody types one for nothing
  if (await identityExists(path)) throw new MortarError('identity-exists', path)
  const identity = Identity.create(suite)
  try {
    const passphrase = given.flag('passphrase') ? await newPassphrase(context) : undefined
    await withSecret(passphrase, secret => createIdentityFile(path, identity, secret))
    context.progress.note(
      `wrote ${path}; keep a copy in a safe place: without it nobody, you included, opens your drives`,
    )
    return outcomeOf(identity, path)
  } finally {
    identity.wipe()
  }
}

export const show: Action = async context => outcomeOf(await context.identity(), context.globals.identity)

function newPassphrase(context: Context): Promise<Uint8Array> {
  if (context.globals.passphraseFile) return context.passphrase()
  if (process.stdin.isTTY) return askNewPassphrase()
  throw new MortarError('usage', 'without a terminal give --passphrase-file or --no-passphrase')
}

const outcomeOf = ({ text }: Identity, path: string): Outcome => ({ json: { identity: text, path }, text })
