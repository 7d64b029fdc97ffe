/**
 * Every error of Mortar, as one table. A person sees `says` (what was wrong) with its `details`, and `todo` (what to do);
 * a program switches on the code. Only the code ever crosses the wire. SPEC §10
 */
interface ErrorRow {
  /** what was wrong, one sentence without a full stop */
  readonly says: string
  /** what the reader can do about it */
  readonly todo: string
  /** HTTP status when the broker's API answers with it */
  readonly status: number
}

const row = (status: number, says: string, todo: string): ErrorRow => ({ status, says, todo })

export const ERRORS = {
  // anyone
  'bad-request': row(400, 'The request is not understood', 'Check the arguments against --help'),
  'bad-config': row(500, 'The configuration file is not valid', 'Mend the named line; unknown keys are refused'),
  'config-missing': row(
    500,
    'The configuration file cannot be read',
    'Check the path after --config and who may read it',
  ),
  'not-found': row(404, 'There is no such thing, or it is not yours', 'List what there is and check the name'),
  denied: row(403, 'You may not do this', 'Ask the owner or an administrator'),
  internal: row(500, 'Something failed inside', 'Look at the log of the program named'),
  timeout: row(504, 'It took too long', 'Try again; if it persists look at the VM log'),
  usage: row(400, 'The command line is not valid', 'Run the command with --help'),
  // identity and login
  'identity-missing': row(400, 'There is no identity file', 'Make one with: mortar identity create'),
  'identity-exists': row(
    409,
    'An identity already exists there',
    'Use another --identity path, or keep the one you have',
  ),
  'identity-invalid': row(
    400,
    'The file is not an identity, or it is damaged',
    'Give the file that mortar identity create wrote, or a copy of it',
  ),
  'identity-locked': row(
    400,
    'The identity file needs its passphrase',
    'Type it on a terminal, or give --passphrase-file',
  ),
  'identity-exposed': row(
    400,
    'Others can read the identity file',
    'Take that away with: chmod 600, then run it again',
  ),
  'identity-wrong': row(
    401,
    'The signature does not belong to a user of this broker',
    'Ask the operator to add your public identity to the broker configuration',
  ),
  'broker-mismatch': row(
    502,
    'The broker is not the one this identity knows at that address',
    'If it was set up anew on purpose, remove its line from known-brokers.json; if not, do not use it',
  ),
  'broker-unreachable': row(
    503,
    'The broker does not answer',
    'Check the address given by --broker or MORTAR_BROKER, and that the broker runs there',
  ),
  'login-expired': row(401, 'The login has expired', 'Log in again'),
  'rate-limited': row(429, 'Too many requests', 'Wait a few seconds and try again'),
  // bricks
  'brick-unknown': row(404, 'There is no such brick', 'List bricks with: mortar brick list'),
  'brick-digest': row(
    409,
    'The image does not match the digest in its manifest',
    'Copy the brick again from its builder',
  ),
  'brick-signature': row(
    409,
    'The manifest is not signed by a builder this broker trusts',
    "Add the builder's public key to the broker configuration",
  ),
  'brick-corrupt': row(409, 'The image is not a sound qcow2 file', 'Build or copy the brick again'),
  'brick-in-use': row(409, 'VMs still run from this brick', 'Delete those VMs first'),
  // launch
  'ticket-invalid': row(400, 'The launch ticket is not valid', 'Create the VM again; check the clock of this machine'),
  'ticket-expired': row(
    400,
    'The launch ticket has expired',
    'Create the VM again; check the clocks of client and broker',
  ),
  'ticket-replayed': row(
    409,
    'The launch ticket was used before',
    'Create the VM again: each launch needs its own ticket',
  ),
  'launcher-changed': row(
    409,
    'The launch secret cannot be opened by the launcher',
    'Create the VM again: the broker may have restarted meanwhile',
  ),
  'no-space': row(507, 'There is not enough disk space', 'Free space on the disk named and try again'),
  'host-full': row(
    507,
    'The host has no room for this VM',
    'Ask for less memory or fewer CPUs, or stop and delete VMs that are not needed',
  ),
  'libvirt-down': row(503, 'libvirt does not answer', 'Start libvirtd (systemctl start libvirtd) and try again'),
  'libvirt-failed': row(502, 'libvirt refused', 'Read its message; look at the libvirt log of the domain'),
  'qemu-missing': row(503, 'QEMU is not installed on the hypervisor', 'apt install qemu-system-x86 qemu-utils'),
  'network-unusable': row(
    500,
    'The network of the VMs cannot be made, or is not as it was made',
    'Run mortar-broker doctor as root; on a host where no bridge can be made, set network = "user"',
  ),
  'port-taken': row(500, 'The address is already in use', 'Stop the program that holds it, or configure another port'),
  'address-unusable': row(500, 'The address cannot be listened on', 'Configure an address of this host'),
  'data-unusable': row(500, 'The data directory cannot be used', 'Mend what is named, or configure another data_dir'),
  'data-taken': row(
    500,
    'Another broker uses the data directory',
    'Stop that broker, or configure another data_dir for this one',
  ),
  'storage-denied': row(
    500,
    "QEMU's user cannot reach the files of the broker",
    'Let it enter every folder above data_dir (chmod o+x); mortar-broker doctor names the one that is closed',
  ),
  // VM
  'vm-exists': row(409, 'A VM of that name exists', 'Choose another name, or delete that VM'),
  'vm-state': row(409, 'The VM is not in a state for this', 'Look at its state with: mortar vm show'),
  'vm-silent': row(504, 'The VM did not enrol in time', 'Read its console with: mortar vm logs'),
  'vm-unreachable': row(503, 'The agent in the VM is not connected', 'Wait a little; then look at: mortar vm logs'),
  unconfirmed: row(
    502,
    'It is not known to be done: the VM did not say so',
    'Take it as not done, and repeat it when the VM answers',
  ),
  'enrolment-invalid': row(
    403,
    'The enrolment is proven by no key that this VM may use',
    'Restart the VM; if it persists delete it and launch a new one',
  ),
  'boot-unproven': row(
    409,
    'The VM started again and does not prove that it is the one you knew',
    'See what it means and decide with: mortar vm confirm VM',
  ),
  'boot-contested': row(
    409,
    'Two boots claim to be this VM: somebody has a copy of its key',
    'Send it nothing; see both and decide with: mortar vm confirm VM; or delete it',
  ),
  // channel
  'agent-key-mismatch': row(
    502,
    'The VM did not prove its key',
    'The broker or the network may be lying: do not use this VM',
  ),
  'vm-mismatch': row(502, 'The broker answered for another VM or drive', 'Do not use it: ask whoever runs the broker'),
  'owner-mismatch': row(
    502,
    'The broker named another owner than the launch ticket',
    'The broker may be lying: do not use it',
  ),
  'certificate-invalid': row(
    502,
    "The VM's certificate does not carry the owner's signature",
    'The broker may be lying: do not use this VM',
  ),
  'grant-invalid': row(403, 'The grant does not give this', "Ask the VM's owner for a new one: mortar grant create"),
  'grant-expired': row(403, 'The grant has expired', "Ask the VM's owner for a new one: mortar grant create"),
  'grant-revoked': row(
    403,
    'The grant was revoked, or a newer one replaced it',
    "Ask the VM's owner for a new one: mortar grant create",
  ),
  handshake: row(502, 'The encrypted channel could not be opened', 'Try again; if it persists look at: mortar vm logs'),
  'record-invalid': row(
    502,
    'An encrypted record was damaged, replayed or out of order',
    'The connection was cut for safety; connect again',
  ),
  'secret-invalid': row(502, 'A secret did not open', 'Connect again; the secret was not used'),
  truncated: row(502, 'The connection ended before the end of the data', 'Run it again: the result is not complete'),
  'protocol-violation': row(502, 'The other side broke the protocol', 'Check that both sides run the same version'),
  'limit-exceeded': row(413, 'A limit of the protocol was exceeded', 'Send less at once'),
  'connection-lost': row(503, 'The connection was lost', 'Connect again; the VM goes on running'),
  'going-away': row(503, 'The other side is shutting down', 'Try again in a moment'),
  'unknown-command': row(400, 'The agent does not know this command', 'The brick may be older than the client'),
  'call-unknown': row(
    404,
    'The VM does not hold this call',
    'Its end was read, its time is over, or its agent ended: see what there is with mortar exec VM --list',
  ),
  // exec and terminal
  'exec-not-found': row(404, 'The program does not exist in the VM', 'Check the path or install it in the VM'),
  'exec-failed': row(500, 'The program could not be started in the VM', 'Check that it may be executed by that user'),
  'directory-unknown': row(404, 'There is no such folder in the VM', 'Name one that exists with --cwd'),
  'runner-lost': row(
    502,
    'What ran the program in the VM has failed, and the program has ended with it',
    'Run it again; if it persists look at the VM log',
  ),
  'user-unknown': row(404, 'There is no such user in the VM', 'Name one with --user'),
  // drives
  'drive-exists': row(409, 'A drive of that name exists', 'Choose another name'),
  'drive-attached': row(409, 'The drive is attached to a VM', 'Detach it first: mortar drive detach'),
  'drive-detached': row(409, 'The drive is not attached to this VM', 'Attach it first: mortar drive attach'),
  'drive-not-empty': row(409, 'The device already holds data', 'Give --erase if all of it may be destroyed'),
  'drive-blank': row(409, 'The drive is not formatted', 'Format it: mortar drive unlock --format'),
  'drive-key-wrong': row(403, 'The key does not open this drive', 'Use the identity that created the drive'),
  'drive-note': row(
    409,
    'The note kept with the drive is not the one its owner wrote',
    'Use the identity that created the drive; if it is that one, the host may have changed the note',
  ),
  'drive-header': row(
    409,
    "The drive's LUKS header is not the one its owner wrote",
    'Do not use it: the host may have forged it',
  ),
  'drive-busy': row(
    409,
    'The drive is in use, or mounted in another way',
    'End the programs that use it and lock it (mortar drive lock), then try again',
  ),
  'drive-unprepared': row(
    409,
    'The drive has not been made ready for the accounts of people',
    'Unlock it once without --read-only',
  ),
  'drive-people': row(
    409,
    'The drive knows an account as that of another person',
    'Revoke the grant of the person whose account is named as the other one (the log of the VM says which), or erase the drive',
  ),
  'drive-failed': row(500, 'The drive could not be used', "Look at the agent's log in the VM: mortar vm logs"),
  // ssh
  'ssh-not-authorised': row(403, 'No SSH key was delivered to this VM', 'Run: mortar ssh VM, which delivers one'),
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERRORS

/** True for a code of the table; what a peer sends is never trusted to be one. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value)
}

/**
 * The one error class. `detail` says which thing and how (for people and local logs, never for the other end of a
 * channel); `cause` is kept for the log.
 */
export class MortarError extends Error {
  readonly code: ErrorCode
  readonly detail: string

  constructor(code: ErrorCode, detail = '', options?: { cause?: unknown }) {
    super(detail === '' ? ERRORS[code].says : `${ERRORS[code].says}: ${detail}`, options)
    this.name = 'MortarError'
    this.code = code
    this.detail = detail
  }

  /** What to do about it, one sentence. */
  get todo(): string {
    return ERRORS[this.code].todo
  }
}

/** The MortarError that an unknown thrown value is, or `fallback` around it. */
export function asMortarError(thrown: unknown, fallback: ErrorCode = 'internal'): MortarError {
  if (thrown instanceof MortarError) return thrown
  const detail = thrown instanceof Error ? thrown.message : String(thrown)
  return new MortarError(fallback, detail, { cause: thrown })
}
