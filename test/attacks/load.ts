/** What a load process can do to a broker: a table of attacks by number of sockets or requests. */
import { randomBytes, randomUUID } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import ssh2 from 'ssh2'

/** An attack, and where it goes. */
export type Load = {
  readonly host: string
  readonly port: number
  /** how many at once */
  readonly count: number
  /** local addresses that they come from; this machine's loopback has many */
  readonly from?: readonly string[]
} & (
  | { readonly kind: 'silent' | 'slow-header' | 'ssh-silent' | 'ssh-key-exchange' }
  /** `path`: a route that anyone may call; a large body that never comes to its end */
  | { readonly kind: 'slow-body'; readonly path: string; readonly token?: string }
  /** control sockets of agents that say nothing; `vm`: one that all of them name */
  | { readonly kind: 'control'; readonly vm?: string }
  /** logs in and then keeps the connection; `privateKey`: a registered key */
  | { readonly kind: 'ssh-idle'; readonly privateKey: string }
  /** asks over and over; `bodies`: one after another */
  | {
      readonly kind: 'requests'
      readonly method: string
      readonly path: string
      readonly bodies: readonly string[]
      readonly token?: string
    }
  /** asks in one breath, without waiting for answers */
  | { readonly kind: 'pipeline'; readonly path: string }
)

export interface Tally {
  readonly sockets: Set<Socket>
  answered: number
  refused: number
  stopped: boolean
}

/** Opens `count` sockets, a few at a time; each lives until the other end closes it. Resolves once all were opened. */
async function openAll(load: Load, tally: Tally, use: (socket: Socket, number: number) => void): Promise<void> {
  const { host, port, count, from = ['127.0.0.1'] } = load
  for (let number = 0; number < count; number++) {
    const socket = connect({ host, port, localAddress: from[number % from.length] as string })
    socket.on('error', () => undefined)
    socket.on('close', () => tally.sockets.delete(socket))
    tally.sockets.add(socket)
    use(socket, number)
    if (number % 50 === 49) await new Promise(resolve => setTimeout(resolve, 20))
  }
  await new Promise(resolve => setTimeout(resolve, 500))
}

const requestOf = (method: string, path: string, lines: readonly string[], body = '') =>
  [`${method} ${path} HTTP/1.1`, 'host: broker', ...lines, '', body].join('\r\n')

/** Runs a load; resolves at its height. */
export async function run(load: Load, tally: Tally): Promise<void> {
  switch (load.kind) {
    case 'silent':
    case 'ssh-silent':
      return openAll(load, tally, socket => socket.resume())
    case 'slow-header':
      return openAll(load, tally, socket => {
        socket.resume()
        socket.write(`GET /v1/broker HTTP/1.1\r\nhost: x\r\nx-filler: ${'x'.repeat(14_000)}`)
      })
    case 'slow-body':
      return openAll(load, tally, socket => {
        socket.resume()
        const lines = ['content-type: application/json', 'content-length: 65000']
        if (load.token) lines.push(`authorization: Bearer ${load.token}`)
        socket.write(requestOf('POST', load.path, lines, ' '.repeat(60_000)))
      })
    case 'control':
      return openAll(load, tally, socket => {
        socket.resume()
        const path = `/v1/agent?vm=${load.vm ?? randomUUID()}`
        const key = randomBytes(16).toString('base64')
        const lines = [
          'upgrade: websocket',
          'connection: Upgrade',
          'sec-websocket-version: 13',
          `sec-websocket-key: ${key}`,
        ]
        socket.write(requestOf('GET', path, lines))
      })
    case 'ssh-key-exchange':
      return openAll(load, tally, socket => {
        socket.resume()
        const payload = Buffer.concat([Buffer.from([20]), randomBytes(16), Buffer.alloc(45)])
        const packet = Buffer.concat([Buffer.from([0, 0, 0, payload.length + 11, 10]), payload, Buffer.alloc(10)])
        socket.write(Buffer.concat([Buffer.from('SSH-2.0-load\r\n'), packet]))
      })
    case 'pipeline': {
      const one = requestOf('GET', load.path, [])
      return openAll(load, tally, socket => {
        socket.on('data', () => tally.answered++)
        socket.write(one.repeat(1_000))
      })
    }
    case 'ssh-idle':
      return logInAll(load, load.privateKey, tally)
    case 'requests': {
      const url = `http://${load.host}:${load.port}${load.path}`
      const headers = {
        'content-type': 'application/json',
        ...(load.token && { authorization: `Bearer ${load.token}` }),
      }
      for (let number = 0; number < load.count; number++)
        void askOnAndOn(url, { method: load.method, headers }, load.bodies, tally)
      return new Promise(resolve => setTimeout(resolve, 1_500))
    }
  }
}

async function askOnAndOn(url: string, init: RequestInit, bodies: readonly string[], tally: Tally): Promise<void> {
  for (let number = 0; !tally.stopped; number++) {
    const body = bodies.length > 0 ? { body: bodies[number % bodies.length] as string } : {}
    const status = await fetch(url, { ...init, ...body }).then(
      async response => {
        await response.arrayBuffer()
        return response.status
      },
      () => 0,
    )
    if (status === 200) tally.answered++
    else tally.refused++
    if (status === 0) await new Promise(resolve => setTimeout(resolve, 50))
  }
}

async function logInAll(load: Load, privateKey: string, tally: Tally): Promise<void> {
  for (let started = 0; started < load.count; started += 16) {
    await Promise.all(Array.from({ length: Math.min(16, load.count - started) }, () => logIn(load, privateKey, tally)))
  }
}

function logIn({ host, port }: Load, privateKey: string, tally: Tally): Promise<void> {
  return new Promise(resolve => {
    const client = new ssh2.Client()
    const socket = connect(port, host)
    socket.on('close', () => {
      tally.sockets.delete(socket)
      resolve()
    })
    tally.sockets.add(socket)
    client.on('ready', () => {
      tally.answered++
      resolve()
    })
    client.on('error', () => {
      tally.refused++
      resolve()
    })
    client.connect({ sock: socket, username: 'mortar', privateKey, readyTimeout: 60_000 })
  })
}
