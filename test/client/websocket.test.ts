/** Both WebSockets of the client, the platform's and our own on Node, against a real server that plays the broker's end. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { openSocket } from '../../client/node/websocket.ts'
import { openWebSocket } from '../../client/sessions/websocket.ts'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'

let server: WebSocketServer
let url = ''
let offered: string[] = []
let peer: Promise<WebSocket>

beforeEach(async () => {
  server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    handleProtocols(protocols) {
      offered = [...protocols]
      return JOIN_PROTOCOL
    },
  })
  peer = new Promise(resolve => server.once('connection', resolve))
  await once(server, 'listening')
  url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1/join`
})
afterEach(() => {
  for (const client of server.clients) client.terminate()
  server.close()
})

const kinds = { "the platform's": openWebSocket, 'our own': openSocket }
describe.each(Object.entries(kinds))('%s WebSocket', (_, open) => {
  test('offers the token as subprotocol, carries packets both ways, ends in order', async () => {
    const transport = await open(url, 'abc')
    expect(offered).toEqual([JOIN_PROTOCOL, `${JOIN_TOKEN_PREFIX}abc`])
    const far = await peer
    far.on('message', data => far.send(data as Buffer))
    for (const length of [1, 125, 126, 65_535]) {
      transport.send(new Uint8Array(length).fill(length % 251))
      expect(await transport.receive()).toEqual(new Uint8Array(length).fill(length % 251))
    }
    far.close(1000)
    expect(await transport.receive()).toBeNull()
    expect(() => transport.send(new Uint8Array(1))).toThrow()
    transport.close()
  })

  test.each([
    [4000, 'ssh-not-authorised', 'ssh-not-authorised'],
    [4000, 'vm-unreachable', 'vm-unreachable'],
    [4000, 'a code nobody knows', 'connection-lost'],
    [1011, '', 'connection-lost'],
  ])('a close with %i "%s" fails with %s', async (code, reason, expected) => {
    const transport = await open(url, 'abc')
    ;(await peer).close(code, reason)
    await expect(transport.receive()).rejects.toMatchObject({ code: expected })
  })

  test('what came before the close can still be taken', async () => {
    const transport = await open(url, 'abc')
    const far = await peer
    for (let i = 0; i < 200; i++) far.send(Uint8Array.of(i))
    far.close(1000)
    for (let i = 0; i < 200; i++) expect(await transport.receive()).toEqual(Uint8Array.of(i))
    expect(await transport.receive()).toBeNull()
  })

  test('a text message and a packet too long end it', async () => {
    const transport = await open(url, 'abc')
    ;(await peer).send('text')
    await expect(transport.receive()).rejects.toMatchObject({ code: 'protocol-violation' })
    peer = new Promise(resolve => server.once('connection', resolve))
    const second = await open(url, 'abc')
    ;(await peer).send(new Uint8Array(65_536))
    await expect(second.receive()).rejects.toThrow()
  })

  test('drained() holds a sender while the other end does not read', async () => {
    const transport = await open(url, 'abc')
    const far = await peer
    far.pause()
    let sent = 0
    const sending = (async () => {
      while (sent < 512) {
        transport.send(new Uint8Array(65_535))
        sent++
        await transport.drained()
      }
    })()
    await new Promise(resolve => setTimeout(resolve, 300))
    expect(sent).toBeLessThan(400)
    far.resume()
    await sending
    expect(sent).toBe(512)
    transport.close()
  })

  test('nobody there is broker-unreachable', async () => {
    const nowhere = url
    server.close()
    await expect(open(nowhere, 'abc')).rejects.toMatchObject({ code: 'broker-unreachable' })
  })
})

// the platform's WebSocket cannot stop reading; there the windows of the streams bound what may come
test('a reader that takes nothing from our own holds up the other end', async () => {
  const transport = await openSocket(url, 'abc')
  const far = await peer
  for (let i = 0; i < 600; i++) far.send(new Uint8Array(65_535))
  await new Promise(resolve => setTimeout(resolve, 500))
  expect(far.bufferedAmount).toBeGreaterThan(10_000_000)
  for (let i = 0; i < 600; i++) expect((await transport.receive())?.length).toBe(65_535)
  transport.close()
})
