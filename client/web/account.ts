/** Logging in and out. The identity comes from a file, lives in memory, and is wiped when the person leaves. */
import { encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import { BrokerApi } from '../broker/api.ts'
import { browserHost } from '../host/host.ts'
import { parseIdentityFile } from '../identity/identity-file.ts'
import { storedVms } from './known-vms.ts'
import { storedPins } from './pins.ts'
import { rememberBroker } from './route.ts'
import { closeSessions } from './sessions.ts'
import { current, reset, set } from './state.ts'
import { startWatching } from './watch.ts'

export interface Credentials {
  readonly brokerUrl: string
  readonly file: File
  /** what the person typed; only for an encrypted file */
  readonly passphrase: string | undefined
}

/** more than any identity file has */
export const LARGEST_FILE_BYTES = 65_536

let stopWatching: () => void = () => undefined
/** how often somebody left: a log-in that was under way then must not end in the identity staying */
let departures = 0

/** Fails with identity-locked, identity-invalid, identity-wrong, broker-mismatch, broker-unreachable, connection-lost, usage. */
export async function logIn({ brokerUrl, file, passphrase }: Credentials): Promise<void> {
  // a film chosen by mistake is not read
  if (file.size > LARGEST_FILE_BYTES) throw new MortarError('identity-invalid', `${file.name} is too long for one`)
  const bytes = new Uint8Array(await file.arrayBuffer())
  const phrase = passphrase === undefined ? undefined : encodeText(passphrase)
  const before = departures
  const identity = await parseIdentityFile(browserHost.suite, bytes, phrase).finally(() => wipe(bytes, phrase))
  try {
    const broker = new BrokerApi({ url: brokerUrl, identity, pins: storedPins, knownVms: storedVms })
    const role = await broker.login()
    const info = await broker.info()
    if (departures !== before) throw new MortarError('login-expired', 'the page was left meanwhile')
    rememberBroker(broker.url)
    const login = { identity, broker, role, info }
    set({ login, notices: [] })
    stopWatching = startWatching(login)
  } catch (thrown) {
    identity.wipe()
    throw thrown
  }
}

/** Ends every session, forgets what was listed, wipes the identity. Safe to repeat. */
export function logOut(): void {
  const { login } = current()
  departures++
  stopWatching()
  closeSessions()
  reset()
  login?.identity.wipe()
}
