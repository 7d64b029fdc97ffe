/** Sessions between two ends in memory: who gets in, what a call may do, and how a session ends. SPEC §5.1, §6.1, §8 */
import { expect, test } from 'vitest'
import { driveFormat } from '../../protocol/commands/drives.ts'
import { exec, STDERR } from '../../protocol/commands/exec.ts'
import { info } from '../../protocol/commands/info.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { facts, sessionPair } from '../support/session-pair.ts'

const params = { argv: ['cat'] }

async function drain(
  items: AsyncIterable<{ type: string; lane?: number; bytes?: Uint8Array; name?: string; body?: unknown }>,
) {
  const seen = { out: '', err: '', messages: [] as unknown[] }
  for await (const item of items) {
    if (item.type === 'message') seen.messages.push([item.name, item.body])
    else if (item.lane === STDERR) seen.err += decodeText(item.bytes as Uint8Array)
    else seen.out += decodeText(item.bytes as Uint8Array)
  }
  return seen
}

test('data, lanes, messages and the end arrive in order', async () => {
  const { session } = await sessionPair({
    handlers: {
      async exec(call) {
        call.accept({})
        for await (const item of call.received()) if (item.type === 'data') await call.write(item.bytes)
        await call.write(encodeText('oops'), STDERR)
        call.post('exit', { code: 3, signal: null })
      },
    },
  })
  const call = await session.open(exec, params)
  await call.write(encodeText('hello'))
  call.end()
  expect(await drain(call.received())).toEqual({
    out: 'hello',
    err: 'oops',
    messages: [['exit', { code: 3, signal: null }]],
  })
  session.close()
  expect(await session.closed).toBeUndefined()
})

test('both kinds of contact open a session, and a launch secret that differs opens none', async () => {
  const known = await sessionPair({ clientContact: { kind: 'known' } })
  expect(known.session.commands).toContain('exec')
  await expect(sessionPair({ agentSecret: new Uint8Array(32) })).rejects.toMatchObject({ code: 'agent-key-mismatch' })
})

test('nobody but the owner gets in', async () => {
  await expect(sessionPair({ ownerIs: new Uint8Array(32).fill(5) })).rejects.toMatchObject({
    code: 'agent-key-mismatch',
  })
  const known = { clientContact: { kind: 'known' }, ownerIs: new Uint8Array(32).fill(5) } as const
  await expect(sessionPair(known)).rejects.toMatchObject({ code: 'owner-mismatch' })
})

test('a session id, VM or broker that differs breaks the handshake', async () => {
  for (const other of [
    { session: facts.vm },
    { vm: facts.session },
    { broker: new Uint8Array(32) },
    { launch: facts.vm },
  ]) {
    await expect(sessionPair({ clientFacts: { ...facts, ...other } })).rejects.toThrow()
  }
})

test('a command without permission is denied and its handler never runs', async () => {
  let ran = false
  const { session } = await sessionPair({
    admit: onlyOwner(PERMISSIONS.filter(permission => permission !== 'exec')),
    handlers: {
      async exec() {
        ran = true
      },
    },
  })
  expect(session.commands).not.toContain('exec')
  await expect(session.open(exec, params)).rejects.toMatchObject({ code: 'denied' })
  expect(ran).toBe(false)
})

test('parameters that break the shape are refused by the agent', async () => {
  const { session } = await sessionPair()
  await expect(session.open(exec, { argv: [] })).rejects.toMatchObject({ code: 'bad-request' })
  await expect(session.open(info, {})).rejects.toMatchObject({ code: 'unknown-command' })
})

test('an unexpected failure crosses as `internal` and nothing else', async () => {
  const { session, faults } = await sessionPair({
    handlers: {
      async exec() {
        throw new Error('secret detail')
      },
    },
  })
  await expect(session.open(exec, params)).rejects.toMatchObject({ code: 'internal', detail: '' })
  expect(faults).toEqual([['exec', 'internal']])
})

test('a slow reader holds up its own stream only, within the window', async () => {
  let written = 0
  const { session } = await sessionPair({
    handlers: {
      async exec(call) {
        call.accept({})
        for (let i = 0; i < 64; i++) {
          await call.write(new Uint8Array(65_536))
          written += 65_536
        }
        call.post('exit', { code: 0, signal: null })
      },
      async info(call) {
        call.accept({} as never)
      },
    },
  })
  const call = await session.open(exec, params)
  await new Promise(resolve => setTimeout(resolve, 200))
  expect(written).toBeLessThanOrEqual(LIMITS.windowBytes)
  let bytes = 0
  for await (const item of call.received()) if (item.type === 'data') bytes += item.bytes.length
  expect(bytes).toBe(64 * 65_536)
})

test('a secret arrives as bytes, is wiped at the sender, and both keys move on', async () => {
  let seen: Uint8Array | undefined
  const { session } = await sessionPair({
    handlers: {
      async 'drive-format'(call) {
        call.accept({})
        seen = await call.secret()
        call.post('done', { headerDigest: new Uint8Array(32) })
      },
    },
  })
  const call = await session.open(driveFormat, { drive: facts.vm, serial: '0'.repeat(20), label: 'x', erase: false })
  const secret = new Uint8Array(64).fill(0xa5)
  await call.sendSecret(secret)
  expect(secret.every(byte => byte === 0)).toBe(true)
  expect((await drain(call.received())).messages).toHaveLength(1)
  expect(seen).toEqual(new Uint8Array(64).fill(0xa5))
})

test('what the relay sees holds none of the plaintext', async () => {
  const captured: Uint8Array[] = []
  const tap = (end: Transport): Transport => ({
    ...end,
    send(packet) {
      captured.push(packet.slice())
      end.send(packet)
    },
  })
  const { session } = await sessionPair({
    through: (client, agent) => [tap(client), tap(agent)],
    handlers: {
      async exec(call) {
        call.accept({})
        await call.write(encodeText('a telling answer'))
      },
    },
  })
  const call = await session.open(exec, { argv: ['a telling question'] })
  await drain(call.received())
  const capture = Buffer.concat(captured).toString('latin1')
  expect(capture.length).toBeGreaterThan(300)
  for (const word of ['telling', 'exec', 'argv']) expect(capture).not.toContain(word)
})

const faults: Record<string, (packet: Uint8Array, index: number) => Uint8Array[]> = {
  flipped: (packet, index) => {
    if (index === 5) packet[packet.length - 1] = (packet[packet.length - 1] as number) ^ 1
    return [packet]
  },
  dropped: (packet, index) => (index === 5 ? [] : [packet]),
  repeated: (packet, index) => (index === 5 ? [packet, packet] : [packet]),
  shortened: (packet, index) => [index === 5 ? packet.subarray(0, packet.length - 1) : packet],
}
test.each(Object.keys(faults))('a record that was %s on the way ends the session as record-invalid', async kind => {
  let index = 0
  const meddle = (end: Transport): Transport => ({
    ...end,
    send(packet) {
      for (const altered of faults[kind]?.(packet, index++) ?? []) end.send(altered)
    },
  })
  const { session } = await sessionPair({
    through: (client, agent) => [client, meddle(agent)],
    handlers: {
      async exec(call) {
        call.accept({})
        for (let i = 0; i < 20; i++) {
          await call.write(encodeText('x'))
          await new Promise(resolve => setTimeout(resolve, 1))
        }
      },
    },
  })
  const call = await session.open(exec, params)
  await expect(drain(call.received())).rejects.toMatchObject({ code: 'record-invalid' })
  expect(await session.closed).toMatchObject({ code: 'record-invalid' })
})

test('a socket that ends without a go-away is not an orderly end', async () => {
  const { session, agentEnd } = await sessionPair()
  agentEnd.close()
  expect(await session.closed).toMatchObject({ code: 'connection-lost' })
})
