/** Frames by hand at a real agent and at a real client: what is out of turn, and what nobody reads. SPEC §7.1, §7.2, §8 */
import { describe, expect, test } from 'vitest'
import { driveUnlock } from '../../protocol/commands/drives.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { encodeText, writeUint } from '../../protocol/core/bytes.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import type { Frame } from '../../protocol/mux/frame.ts'
import { encodeMessage } from '../../protocol/mux/stream.ts'
import type { Handlers } from '../../protocol/session.ts'
import { bareAgent, bareClient } from '../support/bare-end.ts'
import { frame, framesUntil, record, reset } from '../support/frames.ts'
import { muxEnd, now } from '../support/mux-end.ts'
import { facts } from '../support/session-pair.ts'
import { settled } from '../support/still-clock.ts'

const MAP = Uint8Array.of(0xa0)
const goAway = (code: string) => frame('goAway', 0, encodeText(code))
const violation = reset(1, 'protocol-violation')
const open = (id: number) => frame('open', id, MAP)
const opening = (command: string, params: unknown = {}) => frame('open', 1, encodeCbor({ command, params }))
const secret = () => frame('secret', 1, new Uint8Array(112).fill(7))

describe.each<[string, 'client' | 'agent', () => Frame[]]>([
  ['READY', 'agent', () => [frame('ready', 0, MAP)]],
  ['READY, once more,', 'client', () => [frame('ready', 0, MAP)]],
  ['OPEN', 'client', () => [open(1)]],
  ['OPEN with an even id', 'agent', () => [open(2)]],
  ['OPEN with the next even id', 'agent', () => [open(1), open(4)]],
  ['OPEN of an id once more', 'agent', () => [open(1), reset(1, 'denied'), open(1)]],
  ['data in a stream that nobody opened', 'client', () => [frame('data', 1, MAP)]],
  ['data in a stream that nobody opened', 'agent', () => [frame('data', 1, MAP)]],
  ['data in an even stream', 'client', () => [frame('data', 2, MAP)]],
  ['a window for a stream that nobody opened', 'client', () => [frame('window', 1, new Uint8Array(8))]],
])('%s at the %s', (_name, end, frames) => {
  test('ends the session as protocol-violation, which is its last word', async () => {
    const { say, ended, peer } = muxEnd(end)
    say(...frames())
    expect(await ended).toBe('protocol-violation')
    expect((await framesUntil(peer, 'goAway')).at(-1)).toEqual(goAway('protocol-violation'))
    expect(await peer.receive()).toBeNull()
  })
})

test.each(['client', 'agent'] as const)('GOAWAY ends the session at the %s and is not answered', async end => {
  for (const [body, code] of [
    ['', 'in order'],
    ['limit-exceeded', 'limit-exceeded'],
    ['no-such-code', 'protocol-violation'],
  ] as const) {
    const { say, ended, peer } = muxEnd(end)
    say(goAway(body), frame('ping', 0))
    expect(await ended).toBe(code)
    expect(await peer.receive()).toBeNull()
  }
})

test('a record that is no row of frames is told of, too', async () => {
  const { ended, peer } = muxEnd('agent')
  peer.send(Uint8Array.of(99, 0, 0))
  expect(await ended).toBe('protocol-violation')
  expect((await framesUntil(peer, 'goAway')).at(-1)).toEqual(goAway('protocol-violation'))
})

test.each([
  ['PING', () => frame('ping', 0)],
  ['PONG', () => frame('pong', 0)],
  ['data', () => frame('data', 1, MAP)],
])('%s before READY ends the session at the client', async (_name, make) => {
  const { say, ended, mux } = muxEnd('client', undefined, false)
  mux.openStream(MAP)
  say(make(), frame('ready', 0, MAP))
  expect(await ended).toBe('protocol-violation')
})

describe.each(['client', 'agent'] as const)('END at the %s', end => {
  const count = (bytes: number) => {
    const body = new Uint8Array(8)
    writeUint(body, 2, 6, bytes)
    return body
  }
  const began = () => {
    const { say, mux, ended } = muxEnd(end)
    if (end === 'agent') say(open(1))
    else mux.openStream(MAP)
    say(frame('data', 1, new Uint8Array(3)))
    return { say, ended }
  }

  test('says how many bytes came', async () => {
    const { say, ended } = began()
    say(frame('end', 1, count(3)))
    expect(await now(ended)).toBe('open')
  })

  test.each([0, 1, 2, 3, 4, 5, 6])('is truncated with any other number: byte %i', async at => {
    const { say, ended } = began()
    const body = count(3)
    body[at] = 1
    say(frame('end', 1, body))
    expect(await ended).toBe('truncated')
  })
})

/** Reads all it is sent, as exec and terminal do. */
const reading: Partial<Handlers<undefined>> = {
  async exec(call) {
    call.accept({})
    for await (const _item of call.received());
    call.post('exit', { code: 0, signal: null })
  },
}

describe('a command that reads', () => {
  test.each<[string, () => Frame]>([
    ['ACCEPT', () => frame('accept', 1, MAP)],
    ['a secret that it does not take', secret],
    ['a message that it does not know', () => frame('message', 1, encodeMessage('stranger', {}))],
    ['a message that it knows, of another shape', () => frame('message', 1, encodeMessage('eof', { more: 1 }))],
    ['a message that is none', () => frame('message', 1, MAP)],
    ['a name of an object’s own', () => frame('message', 1, encodeMessage('constructor', {}))],
  ])('resets its stream at %s', async (_name, bad) => {
    const { channel, ended } = await bareClient({ handlers: reading })
    await framesUntil(channel, 'ready')
    channel.send(record(opening('exec', { argv: ['cat'] })))
    await framesUntil(channel, 'accept')
    const sent = bad()
    channel.send(record(sent))
    if (sent.type === 'secret') channel.rekeySending()
    expect((await framesUntil(channel, 'reset')).at(-1)).toEqual(violation)
    // its stream and no more
    expect(await now(ended)).toBe('open')
    channel.close()
  })

  test('takes nothing in place of the secret it waits for', async () => {
    for (const bad of [
      frame('message', 1, encodeMessage('stranger', {})),
      frame('data', 1, MAP),
      frame('accept', 1, MAP),
    ]) {
      const { channel } = await bareClient({
        handlers: {
          async 'drive-unlock'(call) {
            call.accept({})
            await call.secret()
          },
        },
      })
      channel.send(record(opening('drive-unlock', unlocking)))
      channel.send(record(bad))
      expect((await framesUntil(channel, 'reset')).at(-1)).toEqual(violation)
      channel.close()
    }
  })
})

const unlocking = {
  drive: facts.vm,
  serial: '0123456789abcdef0123',
  headerDigest: new Uint8Array(32),
  mountName: 'data',
  readOnly: false,
}

test.each<[string, () => Frame]>([
  ['a message', () => frame('message', 1, encodeMessage('stranger', {}))],
  ['ACCEPT', () => frame('accept', 1, MAP)],
  ['data', () => frame('data', 1, MAP)],
  ['a secret', secret],
])('a command that reads nothing drops %s', async (_name, extra) => {
  const done = Promise.withResolvers<void>()
  const { channel, ended } = await bareClient({
    handlers: {
      async 'drive-lock'(call) {
        call.accept({ locked: true, holders: [] })
        await done.promise
      },
    },
  })
  const { drive, serial } = unlocking
  channel.send(record(opening('drive-lock', { drive, serial })))
  const sent = extra()
  channel.send(record(sent))
  if (sent.type === 'secret') channel.rekeySending()
  await framesUntil(channel, 'accept')
  done.resolve()
  expect((await framesUntil(channel, 'end')).map(item => item.type)).not.toContain('reset')
  expect(await now(ended)).toBe('open')
  channel.close()
})

test('a second secret is dropped unread', async () => {
  const { say, mux, peer, streams } = muxEnd('agent')
  say(open(1))
  say(secret())
  say(secret())
  await settled()
  const items = streams[0]?.items()
  const first = (await items?.next())?.value
  expect(first).toMatchObject({ type: 'secret' })
  streams[0]?.end()
  streams[0]?.discard()
  say(frame('end', 1, new Uint8Array(8)))
  expect((await framesUntil(peer, 'end')).map(item => item.type)).toEqual(['end'])
  expect(await items?.next()).toMatchObject({ done: true })
  expect(mux.over).toBe(false)
})

describe('a client', () => {
  const commands = [...PERMISSIONS]
  const ready = (body: unknown) => record(frame('ready', 0, encodeCbor(body)))

  test.each<[string, unknown]>([
    ['version 0', { version: 0, commands }],
    ['version 2', { version: 2, commands }],
    ['no version', { commands }],
    ['65 commands', { version: 1, commands: new Array(65).fill('x') }],
    ['a name of 65 characters', { version: 1, commands: ['x'.repeat(65)] }],
    ['a stranger', { version: 1, commands, more: 1 }],
  ])('refuses READY with %s', async (_name, body) => {
    const { channel, opening } = await bareAgent()
    channel.send(ready(body))
    await expect(opening).rejects.toMatchObject({ code: 'protocol-violation' })
  })

  test('takes READY with 64 names of 64 characters', async () => {
    const { channel, opening } = await bareAgent()
    channel.send(ready({ version: 1, commands: new Array(64).fill('x'.repeat(64)) }))
    expect((await opening).commands).toHaveLength(64)
  })

  test.each<[string, () => Frame]>([
    ['data', () => frame('data', 1, MAP)],
    ['a message', () => frame('message', 1, encodeMessage('exit', { code: 0, signal: null }))],
    ['a secret', secret],
    ['END', () => frame('end', 1, new Uint8Array(8))],
    ['an answer that the command does not know', () => frame('accept', 1, encodeCbor({ more: 1 }))],
  ])('takes no %s before ACCEPT, and tells the agent', async (_name, early) => {
    const { channel, opening } = await bareAgent()
    channel.send(ready({ version: 1, commands }))
    const session = await opening
    const call = session.open(exec, { argv: ['cat'] })
    call.catch(() => undefined)
    await framesUntil(channel, 'open')
    const sent = early()
    channel.send(record(sent))
    if (sent.type === 'secret') channel.rekeySending()
    else if (sent.type !== 'accept' && sent.type !== 'end') channel.send(record(frame('accept', 1, MAP)))
    await expect(call).rejects.toMatchObject({ code: 'protocol-violation' })
    expect((await framesUntil(channel, 'reset')).at(-1)).toEqual(violation)
  })

  test('takes no secret from the agent, and no second ACCEPT', async () => {
    for (const bad of [secret(), frame('accept', 1, MAP)]) {
      const { channel, opening } = await bareAgent()
      channel.send(ready({ version: 1, commands }))
      const session = await opening
      const call = session.open(exec, { argv: ['cat'] })
      await framesUntil(channel, 'open')
      channel.send(record(frame('accept', 1, MAP)))
      channel.send(record(bad))
      if (bad.type === 'secret') channel.rekeySending()
      await expect((await call).received().next()).rejects.toMatchObject({ code: 'protocol-violation' })
      expect((await framesUntil(channel, 'reset')).at(-1)).toEqual(violation)
      session.close()
    }
  })

  test('seals no secret to an answer without an offer', async () => {
    const { channel, opening } = await bareAgent()
    channel.send(ready({ version: 1, commands }))
    const session = await opening
    const call = session.open(driveUnlock, unlocking)
    call.catch(() => undefined)
    await framesUntil(channel, 'open')
    channel.send(record(frame('accept', 1, MAP)))
    await expect(call).rejects.toMatchObject({ code: 'protocol-violation' })
  })
})
