/** What to do about an error, where the page has another way than the command line that the table of errors speaks of. */
import type { ErrorCode, MortarError } from '../../protocol/core/errors.ts'

const HERE: Partial<Record<ErrorCode, string>> = {
  'bad-request': 'Mend what the message names and try again',
  usage: 'Mend it and try again',
  timeout: "Try again; if it persists read the VM's console",
  'identity-invalid': 'Choose the file that mortar identity create wrote, or a copy of it',
  'identity-locked': 'Type the passphrase of the identity file',
  'broker-mismatch':
    'Do not use it unless you know that it was set up anew; only then let this browser forget the key it knew',
  'broker-unreachable': 'Check the address, and that the broker runs there; VMs go on running',
  'connection-lost': 'Check that the broker runs there, then connect again; VMs go on running',
  'brick-unknown': 'Choose one of the listed bricks',
  'vm-state': 'Look at its state and its events',
  'vm-silent': "Read the VM's console",
  'vm-unreachable': "Wait a little, then read the VM's console",
  'boot-unproven': 'Read on its page what it means, and decide there',
  'boot-contested': 'Send it nothing; see both boots on its page and decide there, or delete it',
  'user-unknown': 'Name another user, or none for the usual one',
  'drive-attached': 'Detach it from that VM first',
  'drive-detached': 'Attach it to this VM first',
  'drive-not-empty': 'Format with “Erase what is on it” if all of it may be destroyed',
  'drive-blank': 'Format it first',
  'drive-failed': "Read the VM's console",
  internal: "Reload the page; if it happens again, look at the browser's console",
}

export function adviceOn(error: MortarError): string {
  return HERE[error.code] ?? error.todo
}
