/** Dials the broker and turns the connection into one end of a joined pair. SPEC §4, RFC 6455 section 4 */
import { createHash, randomBytes } from 'node:crypto'
import { type IncomingMessage, request as requestPlain } from 'node:http'
import { request as requestSecure } from 'node:https'
import type { Socket } from 'node:net'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../control/sockets.ts'
import { MortarError } from '../core/errors.ts'

/** what RFC 6455 section 1.3 has a server add to the key */
const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
/** bytes of the answer's headers */
const MOST_HEADER_BYTES = 8_192

export interface Upgraded {
  readonly socket: Socket
  /** what came right behind the answer */
  readonly head: Uint8Array
}

/**
 * `url`: ws or wss. Fails with broker-unreachable (no connection, or refused), timeout (ms after which the dial is given
 * up), connection-lost (once `cut` is aborted) or protocol-violation (an answer that is none of a broker).
 */
export function upgrade(url: URL, token: string, timeoutMs: number, cut?: AbortSignal): Promise<Upgraded> {
  // it becomes part of a header
  if (!/^[\w-]{1,64}$/.test(token)) return Promise.reject(new MortarError('protocol-violation', 'join token'))
  const secure = url.protocol === 'wss:'
  const target = new URL(url)
  target.protocol = secure ? 'https:' : 'http:'
  const key = randomBytes(16).toString('base64')
  return new Promise((resolve, reject) => {
    const request = (secure ? requestSecure : requestPlain)(target, {
      // a pooled connection is not ours to keep
      agent: false,
      maxHeaderSize: MOST_HEADER_BYTES,
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': key,
        'Sec-WebSocket-Protocol': `${JOIN_PROTOCOL}, ${JOIN_TOKEN_PREFIX}${token}`,
      },
    })
    const late = setTimeout(() => fail(new MortarError('timeout', `no answer from ${url}`)), timeoutMs)
    const abort = () => fail(new MortarError('connection-lost', 'cut here'))
    cut?.addEventListener('abort', abort, { once: true })
    const settle = () => {
      clearTimeout(late)
      cut?.removeEventListener('abort', abort)
    }
    const fail = (error: MortarError) => {
      settle()
      reject(error)
      request.destroy()
    }
    const unreachable = (why: string, cause?: unknown) =>
      fail(new MortarError('broker-unreachable', `${url} (${why})`, { cause }))
    // stays for what comes after destroy()
    request.on('error', (cause: NodeJS.ErrnoException) => unreachable(cause.code ?? cause.message, cause))
    request.on('response', response => unreachable(`answered ${response.statusCode}`))
    request.on('upgrade', (response, socket, head) => {
      // until it has an owner; afterwards of no effect
      socket.on('error', () => undefined)
      settle()
      if (proper(response, key)) return resolve({ socket: socket as Socket, head })
      socket.destroy()
      fail(new MortarError('protocol-violation', `${url} is not a broker of this version`))
    })
    request.end()
  })
}

/** Node has seen the Connection header. One that comes twice is joined by a comma, and so no longer the one value that it may have. */
function proper({ statusCode, headers }: IncomingMessage, key: string): boolean {
  return (
    statusCode === 101 &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    headers['sec-websocket-accept'] === createHash('sha1').update(`${key}${ACCEPT_SUFFIX}`).digest('base64') &&
    headers['sec-websocket-protocol'] === JOIN_PROTOCOL &&
    headers['sec-websocket-extensions'] === undefined
  )
}
