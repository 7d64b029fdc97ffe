/** A tap on the path between agent and broker: a TCP relay that keeps what passed and may change it on its way to the agent. */
import { connect, createServer, type Server, type Socket } from 'node:net'

export interface Tap {
  readonly port: number
  /** where it passes bytes on to; set once the broker's port is known */
  target: number
  /** everything that passed while recording, both directions */
  readonly recorded: Buffer[]
  recording: boolean
  /** what the broker sends, as the agent gets it */
  rewrite: ((chunk: Buffer) => Buffer) | undefined
  close(): Promise<void>
}

/** Listens at `host`:`port`: for agents, where they dial; else at any free port of the loopback. */
export async function openTap({ host, port } = { host: '127.0.0.1', port: 0 }): Promise<Tap> {
  const sockets = new Set<Socket>()
  const server: Server = createServer(near => {
    const far = connect(tap.target, '127.0.0.1')
    const keep = (chunk: Buffer) => {
      if (tap.recording) tap.recorded.push(Buffer.from(chunk))
    }
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.setNoDelay(true)
      from.on('data', chunk => {
        keep(chunk)
        const sent = from === far && tap.rewrite ? tap.rewrite(chunk) : chunk
        if (!to.write(sent)) from.pause()
      })
      to.on('drain', () => from.resume())
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.end()
      })
    }
  })
  await new Promise<void>(resolve => server.listen(port, host, resolve))
  const address = server.address()
  const tap: Tap = {
    port: typeof address === 'object' && address ? address.port : 0,
    target: 0,
    recorded: [],
    recording: false,
    rewrite: undefined,
    close() {
      for (const socket of sockets) socket.destroy()
      return new Promise(resolve => server.close(() => resolve()))
    },
  }
  return tap
}
