/**
 * Boot data: what the launch brought into the guest, three files in systemd's credentials directory. The ticket is
 * believed because its owner signed it and its commitment fits the secret. Its expiry is the broker's to check: a VM
 * reboots long after it, and a guest's clock may be wrong. SPEC §2
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { type LaunchTicket, openTicket } from '../../protocol/control/ticket.ts'
import { equalBytes } from '../../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { object, z } from '../../protocol/core/schema.ts'
import { newSecret, wipe } from '../../protocol/core/secret.ts'

const brokerSchema = object({ url: z.url({ protocol: /^wss?$/ }).max(1024) })

export interface BootData {
  readonly ticket: LaunchTicket
  /** 32 bytes; wanted for first contact as long as this boot lasts */
  readonly launchSecret: Uint8Array
  /** WebSocket address of the broker's control socket */
  readonly brokerUrl: string
}

/** Reads and checks the files `mortar.ticket`, `mortar.secret` and `mortar.broker`. Fails with ticket-invalid or bad-config. */
export function readBootData(directory: string, suite: Suite): BootData {
  const ticket = openTicket(readCredential(directory, 'mortar.ticket'))
  const brokerUrl = readBroker(readCredential(directory, 'mortar.broker').toString('utf8'))
  const launchSecret = readSecret(join(directory, 'mortar.secret'))
  if (!equalBytes(launchCommitment(suite, launchSecret), ticket.commitment)) {
    wipe(launchSecret)
    throw new MortarError('ticket-invalid', 'its commitment is not of this launch secret')
  }
  return { ticket, launchSecret, brokerUrl }
}

function readCredential(directory: string, name: string): Buffer {
  try {
    return readFileSync(join(directory, name))
  } catch (cause) {
    throw new MortarError('bad-config', `boot data ${name} cannot be read`, { cause })
  }
}

function readBroker(json: string): string {
  try {
    return brokerSchema.parse(JSON.parse(json)).url
  } catch (cause) {
    throw new MortarError('bad-config', 'boot data mortar.broker is not understood', { cause })
  }
}

/** Straight into a secret buffer, so that no copy stays behind. */
function readSecret(path: string): Uint8Array {
  const secret = newSecret(32)
  let file: number | undefined
  try {
    file = openSync(path, 'r')
    if (fstatSync(file).size !== secret.length) throw new MortarError('bad-config', `${path} needs 32 bytes`)
    if (readSync(file, secret) !== secret.length) throw new MortarError('bad-config', `${path} needs 32 bytes`)
    return secret
  } catch (thrown) {
    wipe(secret)
    throw asMortarError(thrown, 'bad-config')
  } finally {
    if (file !== undefined) closeSync(file)
  }
}
