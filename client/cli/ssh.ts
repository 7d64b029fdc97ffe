/** `mortar ssh` and `mortar ssh-config`: keys are exchanged through the channel, then stock OpenSSH does the rest. */
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import type { Ready } from '../../protocol/commands/command.ts'
import { ssh as sshCommand } from '../../protocol/commands/ssh.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { encodeText } from '../../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { about } from '../errors/name-error.ts'
import { hasCode, writeWhole } from '../node/files.ts'
import { ownCommand } from '../node/self.ts'
import {
  hostAlias,
  JUMP_ALIAS,
  jumpHost,
  type SshHost,
  sshConfigBlock,
  sshFiles,
  userPublicKey,
  writeKnownHosts,
} from '../node/ssh-files.ts'
import { listenForSsh } from '../node/ssh-socket.ts'
import { findVm } from '../vms/vm.ts'
import type { Context } from './context.ts'
import { exitCodeOfProgram } from './exit-codes.ts'
import { requireValid } from './params.ts'
import { withSessionOf } from './session.ts'
import type { Action } from './subcommand.ts'
import { tellError } from './tell-error.ts'

/** how long a delivered key may log in: the longest that the protocol allows */
const VALID_SECONDS = 12 * 3600

export const ssh: Action = async (context, given) => {
  const broker = await context.broker()
  const { openSocket } = await context.host()
  const vm = await findVm(broker, given.operand(0))
  const { user } = await exchangeKeys(context, vm)
  const socket = await listenForSsh(
    async () => openSocket(broker.joinUrl, (await broker.createSession(vm.id, 'ssh')).token),
    thrown => process.stderr.write(tellError(asMortarError(thrown), context.globals)),
  )
  try {
    const proxyCommand = [...ownCommand(), 'ssh-proxy', '--socket', socket.path, vm.id]
    // this run's alone, as its socket is
    const path = join(dirname(socket.path), 'config')
    await writeConfig(context, path, [vmHost(vm, { user, proxyCommand })])
    return { exitCode: await runSsh(['-F', path, hostAlias(vm.id), ...given.operands.slice(1)]) }
  } finally {
    await socket.close()
  }
}

export const sshConfig: Action = async (context, given) => {
  const broker = await context.broker()
  const vm = await findVm(broker, given.operand(0))
  const { user } = await exchangeKeys(context, vm)
  const hosts = given.flag('jump') ? await hostsByJump(context, vm, user) : [hostByProxy(context, vm, user)]
  const path = sshFiles(context.sshFolder).config(hostAlias(vm.id))
  await writeConfig(context, path, hosts)
  const config = hosts.map(host => sshConfigBlock(context.sshFolder, host)).join('\n')
  return { json: { host: hostAlias(vm.id), path, config }, text: config }
}

/** The user's key in, the VM's host keys out; both through the channel, so that the broker can exchange neither. */
async function exchangeKeys(context: Context, vm: Vm): Promise<Ready<typeof sshCommand>> {
  const userKey = await userPublicKey(context.sshFolder, path =>
    context.progress.note(`made the SSH key ${path}, for VMs and the jump host of Mortar only`),
  )
  const params = requireValid(sshCommand.params, { userKey, validSeconds: VALID_SECONDS })
  const exchange = async (session: ClientSession) => {
    const opening = () => session.open(sshCommand, params)
    const call = await about(`ssh in ${vm.name}`, opening)
    for await (const _ of call.received()) {
      // all is said in the answer; this takes the end of the stream
    }
    return call.ready
  }
  const exchanging = withSessionOf(context, vm, exchange, { whose: 'granted too' })
  const ready = await context.progress.during(`exchanging SSH keys with ${vm.name}`, exchanging)
  // it becomes a word of a configuration file
  if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(ready.user)) throw new MortarError('protocol-violation', 'name of the user')
  await writeKnownHosts(context.sshFolder, hostAlias(vm.id), ready.hostKeys)
  return ready
}

const vmHost = (vm: Vm, rest: Pick<SshHost, 'user'> & Partial<SshHost>): SshHost => ({
  names: [vm.name, hostAlias(vm.id)],
  alias: hostAlias(vm.id),
  hostName: hostAlias(vm.id),
  ...rest,
})

function hostByProxy(context: Context, vm: Vm, user: string): SshHost {
  const { broker, identity, passphraseFile } = context.globals
  const globals = ['--quiet', '--broker', broker, '--identity', identity]
  if (passphraseFile) globals.push('--passphrase-file', passphraseFile)
  return vmHost(vm, { user, proxyCommand: [...ownCommand(), ...globals, 'ssh-proxy', vm.id] })
}

/** Through the broker's jump host, where the same key logs in; it sees the ciphertext of the ssh inside. Fails with not-found. */
async function hostsByJump(context: Context, vm: Vm, user: string): Promise<SshHost[]> {
  const broker = await context.broker()
  const { ssh: jump } = await broker.info()
  if (!jump) throw new MortarError('not-found', 'this broker has no jump host')
  await broker.registerSshKey(await userPublicKey(context.sshFolder))
  await writeKnownHosts(context.sshFolder, JUMP_ALIAS, [jump.hostKey])
  return [jumpHost(broker.url, jump.port, user), vmHost(vm, { user, hostName: vm.id, jump: JUMP_ALIAS })]
}

async function writeConfig(context: Context, path: string, hosts: readonly SshHost[]): Promise<void> {
  await writeWhole(path, encodeText(hosts.map(host => sshConfigBlock(context.sshFolder, host)).join('\n')))
}

/** Runs the ssh of this machine on this terminal. Signals of the terminal reach it by themselves. */
function runSsh(argv: readonly string[]): Promise<number> {
  const ignore = () => {}
  process.on('SIGINT', ignore)
  process.on('SIGQUIT', ignore)
  return new Promise((resolve, reject) => {
    const child = spawn('ssh', argv, { stdio: 'inherit' })
    const pass = (signal: NodeJS.Signals) => child.kill(signal)
    process.on('SIGTERM', pass)
    process.on('SIGHUP', pass)
    child.on('exit', (code, signal) => resolve(exitCodeOfProgram({ code, signal })))
    child.on('error', cause => {
      const why = hasCode(cause, 'ENOENT') ? 'ssh is not installed (apt install openssh-client)' : cause.message
      reject(new MortarError('internal', why, { cause }))
    })
  })
}
