/** A broker that lies: a proxy before a real one, which passes everything on but what a test has it say instead. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'

export interface Asked {
  readonly method: string
  /** without its query */
  readonly path: string
}

/** An answer instead of the broker's. `status` is 200 unless given. */
export interface Lie {
  readonly status?: number
  readonly json: unknown
}

export interface LyingProxy {
  readonly url: string
  /** what was asked, in order, whoever answered */
  readonly asked: Asked[]
  /** answers instead of the broker, which is not asked then; undefined: the broker is asked */
  swallow: (asked: Asked) => Lie | undefined
  // biome-ignore lint/suspicious/noExplicitAny: a lie may be about answers of every shape
  bend: (asked: Asked, json: any) => unknown
  /** tells the truth from now on */
  repent(): void
  close(): void
}

/** `origin`: the broker's, http. */
export async function lyingProxy(origin: string): Promise<LyingProxy> {
  const { hostname, port } = new URL(origin)
  const sockets = new Set<Socket>()
  const proxy: LyingProxy = {
    url: '',
    asked: [],
    swallow: () => undefined,
    bend: (_, json) => json,
    repent() {
      proxy.swallow = () => undefined
      proxy.bend = (_, json) => json
    },
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      server.closeAllConnections()
    },
  }
  const server = createServer((incoming, outgoing) => {
    const asked = { method: incoming.method ?? '', path: (incoming.url ?? '').split('?')[0] ?? '' }
    proxy.asked.push(asked)
    // what a browser asks before it asks is no part of a lie
    const lie = asked.method === 'OPTIONS' ? undefined : proxy.swallow(asked)
    if (!lie) return passOn(incoming, outgoing, asked)
    incoming.resume()
    const origin = incoming.headers.origin
    const headers = { 'content-type': 'application/json', ...(origin && { 'access-control-allow-origin': origin }) }
    outgoing.writeHead(lie.status ?? 200, headers).end(JSON.stringify(lie.json))
  })
  const passOn = (incoming: IncomingMessage, outgoing: ServerResponse, asked: Asked) => {
    const { method, url: path, headers } = incoming
    const onward = request({ hostname, port, method, path, headers }, async answer => {
      const chunks: Buffer[] = []
      for await (const chunk of answer) chunks.push(chunk as Buffer)
      const body = Buffer.concat(chunks)
      const { 'content-length': _, 'transfer-encoding': __, connection: ___, ...rest } = answer.headers
      const isJson = rest['content-type']?.startsWith('application/json') ?? false
      const bent = isJson ? JSON.stringify(proxy.bend(asked, JSON.parse(`${body}`))) : body
      outgoing.writeHead(answer.statusCode ?? 500, rest).end(bent)
    })
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  }
  // data sockets pass as they are: what goes through them is encrypted
  server.on('upgrade', (incoming, socket: Socket, head) => {
    const onward = connect(Number(port), hostname, () => {
      const lines = incoming.rawHeaders.map((text, index) => text + (index % 2 === 0 ? ': ' : '\r\n')).join('')
      onward.write(`${incoming.method} ${incoming.url} HTTP/1.1\r\n${lines}\r\n`)
      onward.write(head)
      socket.pipe(onward).pipe(socket)
    })
    for (const end of [socket, onward]) {
      sockets.add(end)
      end.on('error', () => {})
      end.on('close', () => {
        sockets.delete(end)
        socket.destroy()
        onward.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return Object.assign(proxy, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
}
