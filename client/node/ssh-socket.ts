/**
 * A socket for the ssh that this program starts: each connection to it leads to sshd in the VM, so that the proxy which ssh
 * runs needs no identity and asks for no passphrase. Lies in a folder that nobody else can enter.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Transport } from '../../protocol/core/transport.ts'
import { pipeSsh } from './ssh-pipe.ts'

export interface SshSocket {
  readonly path: string
  close(): Promise<void>
}

/** Listens until closed. `onFailure` is told why a connection could not be made. */
export async function listenForSsh(
  connect: () => Promise<Transport>,
  onFailure: (thrown: unknown) => void,
): Promise<SshSocket> {
  const folder = await mkdtemp(join(tmpdir(), 'mortar-ssh-'))
  const path = join(folder, 'socket')
  // half-open: what sshd still says after ssh stopped speaking must arrive
  const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => {
    socket.on('error', () => socket.destroy())
    connect()
      .then(transport => pipeSsh(transport, socket, socket))
      .catch(onFailure)
      .finally(() => socket.destroy())
  })
  await listen(server, path)
  return {
    path,
    async close() {
      server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => resolve())
  })
}
