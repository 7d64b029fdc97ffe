/** A joined pair's end on Node against ws, in the clear and over TLS, and against servers that keep to nothing. SPEC §4 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { JOIN_PROTOCOL } from '../../protocol/control/sockets.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { openJoinedSocket } from '../../protocol/native/joined-socket.ts'
import { describeUnless, missingOf } from '../support/possible.ts'
import { answering, closeServers, listen, proper } from '../support/upgrade-server.ts'
import { clientMessages, serverFrame } from '../support/websocket-frames.ts'

afterEach(closeServers)

const bytesOf = (length: number, seed = 7) => Buffer.from(Uint8Array.from({ length }, (_, i) => i * seed))
const take = async (transport: Transport) => Buffer.from((await transport.receive()) ?? [])

/** An end, and the ws at the other. */
async function withWs(server: Server, scheme: string): Promise<{ transport: Transport; far: WebSocket }> {
  const accepted = new WebSocketServer({ server, handleProtocols: () => JOIN_PROTOCOL })
  const connected = once(accepted, 'connection')
  const transport = await openJoinedSocket(await listen(server, scheme), 'abc', 20_000)
  const [far] = (await connected) as [WebSocket]
  return { transport, far }
}

/** Packets of many lengths both ways at once, then the end in order. */
async function talk({ transport, far }: { transport: Transport; far: WebSocket }): Promise<void> {
  const lengths = [0, 1, 125, 126, 4_096, 65_535, ...Array.from({ length: 120 }, (_, i) => (i * 7_919) % 65_536)]
  const heard: Buffer[] = []
  far.on('message', data => heard.push(data as Buffer))
  for (const [i, length] of lengths.entries()) far.send(bytesOf(length, i), { binary: true })
  const sending = (async () => {
    for (const [i, length] of lengths.entries()) {
      transport.send(Uint8Array.from(bytesOf(length, i + 1)))
      await transport.drained()
    }
  })()
  for (const [i, length] of lengths.entries()) expect(await take(transport)).toEqual(bytesOf(length, i))
  await sending
  await expect.poll(() => heard.length).toBe(lengths.length)
  for (const [i, length] of lengths.entries()) expect(heard[i]).toEqual(bytesOf(length, i + 1))
  const closed = once(far, 'close')
  transport.close()
  expect(await transport.receive()).toBeNull()
  expect((await closed)[0]).toBe(1000)
}

test('carries packets both ways and ends in order', async () => {
  await talk(await withWs(createServer(), 'ws'))
})

describeUnless(missingOf({ openssl: 'openssl' }), 'over TLS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-tls-'))
  const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const request = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=broker'
  const more = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', keyFile, '-out', certFile]
  spawnSync('openssl', [...request.split(' '), ...more])
  const [key, cert] = [readFileSync(keyFile), readFileSync(certFile)]
  rmSync(folder, { recursive: true })

  test('carries packets both ways and ends in order', async () => {
    const usual = getCACertificates('default')
    setDefaultCACertificates([cert.toString()])
    try {
      await talk(await withWs(createSecureServer({ key, cert }), 'wss'))
    } finally {
      setDefaultCACertificates(usual)
    }
  })

  test('goes to nobody whose certificate is not trusted', async () => {
    const opened = withWs(createSecureServer({ key, cert }), 'wss')
    await expect(opened).rejects.toMatchObject({ code: 'broker-unreachable' })
  })
})

/** An end, and the raw socket of its server. `early`: what comes in one piece with the answer. */
async function withRaw(early: Uint8Array = Buffer.alloc(0)) {
  const { url, upgraded } = await answering(proper, early)
  const transport = await openJoinedSocket(url, 'abc', 20_000)
  const far = await upgraded
  const chunks: Buffer[] = []
  const listening = () => far.on('data', (chunk: Buffer) => chunks.push(chunk))
  return { transport, far, listening, heard: () => Buffer.concat(chunks) }
}

const binary = (payload: Buffer) => serverFrame(payload, { opcode: 2, fin: true })
const close = (code: number, reason = '') =>
  serverFrame(Buffer.concat([Buffer.of(code >> 8, code & 0xff), Buffer.from(reason)]), { opcode: 8, fin: true })
const maskedClose = (code: number) => Buffer.of(0x88, 0x82, 0, 0, 0, 0, code >> 8, code & 0xff)

describe('an end', () => {
  test('takes what came right behind the answer, in order with the rest', async () => {
    const all = Buffer.concat([binary(bytesOf(10)), binary(bytesOf(5_000)), binary(bytesOf(70))])
    for (const border of [0, 1, 12, 13, 14, 15, 4_000, all.length - 1]) {
      const { transport, far } = await withRaw(all.subarray(0, border))
      far.write(all.subarray(border))
      for (const length of [10, 5_000, 70]) expect(await take(transport)).toEqual(bytesOf(length))
      transport.close()
    }
  })

  test('tells an orderly close, a close with an error, and a connection that went', async () => {
    const endings: [(far: Socket) => void, string | null][] = [
      [far => far.write(close(1000)), null],
      [far => far.end(close(1000, 'bye')), null],
      [far => far.write(close(4000, 'vm-unreachable')), 'vm-unreachable'],
      [far => far.write(close(4000, 'whatever')), 'connection-lost'],
      [far => far.write(close(4001, 'vm-unreachable')), 'connection-lost'],
      [far => far.write(close(1001)), 'connection-lost'],
      [far => far.write(serverFrame(Buffer.alloc(0), { opcode: 8, fin: true })), 'connection-lost'],
      [far => far.end(), 'connection-lost'],
      [far => far.end(binary(bytesOf(100)).subarray(0, 50)), 'connection-lost'],
      [far => far.resetAndDestroy(), 'connection-lost'],
      [far => far.write(Buffer.of(0x81, 0)), 'protocol-violation'],
      [far => far.write(Buffer.of(0x82, 127)), 'limit-exceeded'],
    ]
    for (const [ending, code] of endings) {
      const { transport, far } = await withRaw(binary(bytesOf(3)))
      ending(far)
      expect(await take(transport)).toEqual(bytesOf(3))
      const last = await transport.receive().then(
        packet => packet,
        (error: { code: string }) => error.code,
      )
      expect(last).toBe(code)
      expect(() => transport.send(new Uint8Array(1))).toThrow()
      await transport.drained()
      transport.close()
    }
  })

  test('answers a close with its code and goes, breaks off with 1002', async () => {
    for (const [said, answer] of [
      [close(4000, 'denied'), maskedClose(4000)],
      [serverFrame(Buffer.alloc(0), { opcode: 8, fin: true }), Buffer.of(0x88, 0x80, 0, 0, 0, 0)],
      [Buffer.of(0x83, 0), maskedClose(1002)],
    ] as const) {
      const { far, listening, heard } = await withRaw()
      listening()
      const gone = once(far, 'end')
      far.write(said)
      await gone
      expect(heard()).toEqual(answer)
    }
  })

  test('closes though its reader took nothing, and hears the answer', async () => {
    const { transport, far, listening, heard } = await withRaw()
    for (let i = 0; i < 20; i++) far.write(binary(bytesOf(65_535)))
    await new Promise(resolve => setTimeout(resolve, 100))
    transport.close()
    transport.close()
    listening()
    await expect.poll(heard).toEqual(maskedClose(1000))
    // what came before can still be taken
    expect(await take(transport)).toEqual(bytesOf(65_535))
    const gone = once(far, 'close')
    far.end(close(1000))
    await gone
  })

  test('has sent all when its program exits right after closing', async () => {
    const { url, upgraded } = await answering(proper)
    const module = new URL('../../protocol/native/joined-socket.ts', import.meta.url)
    const script = `import { openJoinedSocket } from '${module}'
      const transport = await openJoinedSocket(new URL('${url}'), 'abc', 20_000)
      transport.send(new Uint8Array(3))
      transport.close()
      process.exit(0)`
    const program = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' })
    const chunks: Buffer[] = []
    const far = await upgraded
    far.on('data', (chunk: Buffer) => chunks.push(chunk))
    await once(program, 'exit')
    await expect.poll(() => far.readableEnded).toBe(true)
    expect(Buffer.concat(chunks)).toEqual(
      Buffer.concat([Buffer.of(0x82, 0x83, 0, 0, 0, 0), Buffer.alloc(3), maskedClose(1000)]),
    )
  })

  test('answers pings, and of those it cannot answer the last', async () => {
    const { transport, far, listening, heard } = await withRaw()
    const ping = (n: number) => serverFrame(Buffer.from(`${n}`.padEnd(125)), { opcode: 9, fin: true })
    // more than the kernel takes: somebody has to drop them
    const count = 120_000
    const pings = Buffer.concat(Array.from({ length: count }, (_, n) => ping(n)))
    far.write(pings)
    far.write(binary(bytesOf(1)))
    expect(await take(transport)).toEqual(bytesOf(1))
    expect(far.writableLength).toBe(0)
    listening()
    const last = Buffer.from(`${count - 1}`.padEnd(125))
    await expect.poll(() => heard().subarray(-125).equals(last)).toBe(true)
    expect(heard().length % 131).toBe(0)
    expect(heard().length).toBeLessThan(pings.length)
    transport.close()
  })

  test('stops reading when what came is not taken, empty packets too', async () => {
    for (const payload of [bytesOf(0), bytesOf(65_535)]) {
      const { transport, far } = await withRaw()
      const frame = binary(payload)
      const count = Math.ceil((24 * 2 ** 20) / frame.length)
      far.write(Buffer.concat(Array.from({ length: count }, () => frame)))
      await new Promise(resolve => setTimeout(resolve, 400))
      expect(far.writableLength).toBeGreaterThan(0)
      for (let i = 0; i < Math.min(count, 50_000); i++) expect((await transport.receive())?.length).toBe(payload.length)
      far.destroy()
    }
  })

  test('owns what it sends, and frees it once it is written', async () => {
    const { transport, listening, heard } = await withRaw()
    listening()
    const packets = Array.from({ length: 40 }, (_, i) => Uint8Array.from(bytesOf(65_535, i + 1)))
    for (const packet of packets) {
      transport.send(packet)
      await transport.drained()
    }
    await expect.poll(() => packets.every(({ buffer }) => (buffer as ArrayBuffer).detached)).toBe(true)
    await expect.poll(() => heard().length).toBe(40 * (65_535 + 8))
    expect(await clientMessages(heard())).toEqual(Array.from({ length: 40 }, (_, i) => bytesOf(65_535, i + 1)))
    expect(() => transport.send(new Uint8Array(65_536))).toThrow(expect.objectContaining({ code: 'limit-exceeded' }))
    transport.close()
  })
})
