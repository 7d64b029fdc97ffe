/** `mortar ssh-proxy`: what ssh runs as ProxyCommand. With --socket it only copies bytes and needs no identity. */
import { connect } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Context } from './context.ts'
import type { Action } from './subcommand.ts'

export const sshProxy: Action = async (context, given) => {
  const socket = given.text('socket')
  if (socket === undefined) await proxyThroughBroker(context, given.operand(0))
  else await proxyThroughSocket(socket)
  return { exitCode: 0 }
}

async function proxyThroughBroker(context: Context, nameOrId: string): Promise<void> {
  const { findVm } = await import('../vms/vm.ts')
  const { pipeSsh } = await import('../node/ssh-pipe.ts')
  const broker = await context.broker()
  const vm = await findVm(broker, nameOrId)
  const { token } = await broker.createSession(vm.id, 'ssh')
  const transport = await (await context.host()).openSocket(broker.joinUrl, token)
  await pipeSsh(transport, process.stdin, process.stdout)
}

async function proxyThroughSocket(path: string): Promise<void> {
  const socket = connect({ path, allowHalfOpen: true })
  try {
    void pipeline(process.stdin, socket).catch(() => socket.destroy())
    await pipeline(socket, process.stdout, { end: false })
  } catch (cause) {
    throw new MortarError('connection-lost', 'mortar ssh has ended', { cause })
  }
}
