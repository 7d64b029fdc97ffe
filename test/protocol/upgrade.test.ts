/** What a joined socket takes for the answer of a broker. SPEC §4 */
import { afterEach, describe, expect, test } from 'vitest'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/sockets.ts'
import { openJoinedSocket } from '../../protocol/native/joined-socket.ts'
import { acceptOf, answering, closeServers, proper, stopListening } from '../support/upgrade-server.ts'

afterEach(closeServers)

const but = (index: number, line: string) => (key: string | undefined) => proper(key).with(index, line)

describe('an answer', () => {
  test.each([
    ['of another key', but(3, `Sec-WebSocket-Accept: ${acceptOf('other')}`), 'protocol-violation'],
    ['without the key', but(3, 'X: y'), 'protocol-violation'],
    ['of another protocol', but(4, 'Sec-WebSocket-Protocol: mortar.join.v2'), 'protocol-violation'],
    ['without a protocol', but(4, 'X: y'), 'protocol-violation'],
    ['with the token as protocol too', but(4, `Sec-WebSocket-Protocol: ${JOIN_PROTOCOL}, x`), 'protocol-violation'],
    [
      'with two protocols',
      (key: string | undefined) => [...proper(key), `Sec-WebSocket-Protocol: ${JOIN_PROTOCOL}`],
      'protocol-violation',
    ],
    [
      'with compression',
      (key: string | undefined) => [...proper(key), 'Sec-WebSocket-Extensions: permessage-deflate'],
      'protocol-violation',
    ],
    ['to another upgrade', but(1, 'Upgrade: h2c'), 'protocol-violation'],
    ['of 200', but(0, 'HTTP/1.1 200 OK'), 'broker-unreachable'],
    ['of 401', () => ['HTTP/1.1 401 Unauthorized', 'Content-Length: 0'], 'broker-unreachable'],
    ['of a redirect', () => ['HTTP/1.1 302 Found', 'Location: /elsewhere'], 'broker-unreachable'],
    ['that is no HTTP', () => ['SSH-2.0-x'], 'broker-unreachable'],
    [
      'of endless headers',
      (key: string | undefined) => [...proper(key), `X: ${'y'.repeat(9_000)}`],
      'broker-unreachable',
    ],
    ['that does not come', () => [], 'timeout'],
  ])('%s is refused', async (_what, lines, code) => {
    const { url, upgraded, offered } = await answering(lines)
    // only who is waited for in vain is waited for briefly: what comes may come late
    const opened = openJoinedSocket(url, 'abc', code === 'timeout' ? 300 : 20_000)
    await expect(opened).rejects.toMatchObject({ code })
    expect(offered).toEqual([`${JOIN_PROTOCOL}, ${JOIN_TOKEN_PREFIX}abc`])
    // and the connection is not kept
    await expect.poll(async () => (await upgraded).destroyed || (await upgraded).readableEnded).toBe(true)
  })

  test('that is cut off, or nobody, is broker-unreachable', async () => {
    const { url, upgraded } = await answering(() => [])
    const opened = openJoinedSocket(url, 'abc', 20_000)
    ;(await upgraded).destroy()
    await expect(opened).rejects.toMatchObject({ code: 'broker-unreachable' })
    stopListening()
    await expect(openJoinedSocket(url, 'abc', 20_000)).rejects.toMatchObject({ code: 'broker-unreachable' })
  })

  test('is cut when it is no longer wanted, while it is asked for and afterwards', async () => {
    const cut = new AbortController()
    const waiting = await answering(() => [])
    const opened = openJoinedSocket(waiting.url, 'abc', 5_000, cut.signal)
    const far = await waiting.upgraded
    cut.abort()
    await expect(opened).rejects.toMatchObject({ code: 'connection-lost' })
    await expect.poll(() => far.destroyed || far.readableEnded).toBe(true)
    const later = new AbortController()
    const answered = await answering(proper)
    const transport = await openJoinedSocket(answered.url, 'abc', 5_000, later.signal)
    const heard: Buffer[] = []
    const other = (await answered.upgraded).on('data', (chunk: Buffer) => heard.push(chunk))
    later.abort()
    await expect(transport.receive()).rejects.toMatchObject({ code: 'connection-lost' })
    await expect.poll(() => other.destroyed || other.readableEnded).toBe(true)
    // not a close in order, which would say something
    expect(heard).toEqual([])
  })

  test('is not asked for with a token that would be a header of its own', async () => {
    const opened = openJoinedSocket(new URL('ws://127.0.0.1:1/'), 'abc\r\nX: y', 20_000)
    await expect(opened).rejects.toMatchObject({ code: 'protocol-violation' })
  })
})
