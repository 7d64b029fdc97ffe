/** The multiplexer against a peer that writes its own frames: what it may cost, and what ends the session. SPEC §7.1, §7.3 */
import { expect, test } from 'vitest'
import { encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { decodeFrames } from '../../protocol/mux/frame.ts'
import { Inbox } from '../../protocol/mux/inbox.ts'
import { Mux } from '../../protocol/mux/mux.ts'
import { Stream } from '../../protocol/mux/stream.ts'
import { decodeCredit, encodeCredit } from '../../protocol/mux/window.ts'
import { frame, record } from '../support/frames.ts'
import { heldBytes } from '../support/held-bytes.ts'
import { wallClock } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'

/** An agent's multiplexer; what it sends piles up at `peer` unless it is taken. */
function agentMux(drained: () => Promise<void> = () => Promise.resolve()) {
  const [peer, end] = transportPair()
  const received: Uint8Array[] = []
  const transport: Transport = {
    ...end,
    drained,
    async receive() {
      const packet = await end.receive()
      if (packet) received.push(packet)
      return packet
    },
  }
  const streams: Stream[] = []
  const mux = new Mux({
    transport: { ...transport, rekeySending() {}, rekeyReceiving() {} },
    clock: wallClock,
    onOpen: stream => void streams.push(stream),
  })
  const ended = mux.run().then(
    () => 'in order',
    (error: { code: string }) => error.code,
  )
  return { peer, mux, streams, received, ended }
}

const settled = () => new Promise(resolve => setTimeout(resolve, 20))
/** as much as a stream may have unread at first */
const full = (id: number) => frame('data', id, new Uint8Array(LIMITS.windowBytes))
const open = (id: number) => frame('open', id, Uint8Array.of(0xa0))

test('what nobody reads is limited, whatever kind of frame it is', async () => {
  for (const type of ['message', 'accept', 'secret'] as const) {
    const { peer, ended } = agentMux()
    peer.send(record(open(1)))
    for (let i = 0; i <= LIMITS.unreadMessages; i++) peer.send(record(frame(type, 1, Uint8Array.of(0xf6))))
    expect(await ended).toBe('limit-exceeded')
  }
})

test('the unread messages of all streams together are limited', async () => {
  const { peer, ended, streams } = agentMux()
  const message = (id: number) => record(frame('message', id, new Uint8Array(LIMITS.messageBytes)))
  const most = LIMITS.sessionMessageBytes / LIMITS.messageBytes
  const ids = Array.from({ length: 4 }, (_, i) => 2 * i + 1)
  peer.send(record(...ids.map(open)))
  for (let i = 0; i < most; i++) peer.send(message(ids[i % 4] as number))
  await settled()
  // what is read makes room, and so does what nobody will read
  const items = (streams[0] as Stream).items()
  await items.next()
  peer.send(message(1))
  peer.send(record(frame('reset', 3)))
  for (let i = 0; i < most / 4; i++) peer.send(message(1))
  await settled()
  expect(streams).toHaveLength(4)
  peer.send(message(1))
  expect(await ended).toBe('limit-exceeded')
})

test('data beyond the window resets its stream and no other', async () => {
  const { peer, streams } = agentMux()
  peer.send(record(open(1), open(3), full(1)))
  peer.send(record(frame('data', 1, Uint8Array.of(1)), frame('data', 3, Uint8Array.of(1))))
  await settled()
  const [reset] = decodeFrames((await peer.receive()) as Uint8Array)
  expect(reset).toMatchObject({ type: 'reset', streamId: 1, body: encodeText('limit-exceeded') })
  expect((streams[0] as Stream).signal.aborted).toBe(true)
  expect((streams[1] as Stream).signal.aborted).toBe(false)
})

test('the windows of a session grow with their readers up to a common limit', async () => {
  const { peer, streams } = agentMux()
  const ids = Array.from({ length: 8 }, (_, i) => 2 * i + 1)
  peer.send(record(...ids.map(open)))
  await settled()
  const windows = ids.map(() => LIMITS.windowBytes as number)
  for (const [i, id] of ids.entries()) {
    for (let round = 0; round < 10; round++) {
      // half of the window is read at once
      for (let left = (windows[i] as number) / 2; left > 0; left -= 32_768) {
        peer.send(record(frame('data', id, new Uint8Array(Math.min(left, 32_768)))))
      }
      const items = (streams[i] as Stream).items()
      for (let read = 0; read < (windows[i] as number) / 2; ) {
        const { value } = await items.next()
        if (value?.type === 'data') read += value.bytes.length
      }
      void items.next()
      for (const answer of decodeFrames((await peer.receive()) as Uint8Array)) {
        expect(answer.type).toBe('window')
        windows[i] = decodeCredit(answer.body).window
      }
    }
  }
  const reserved = (LIMITS.streams - ids.length) * LIMITS.windowBytes
  expect(windows[0]).toBe(LIMITS.mostWindowBytes)
  expect(windows.reduce((sum, window) => sum + window, 0)).toBeLessThanOrEqual(LIMITS.sessionWindowBytes - reserved)
  expect(windows.at(-1)).toBe(LIMITS.windowBytes)
})

test('a sender of single bytes costs the memory of its window and no more', async () => {
  const { peer, streams } = agentMux()
  peer.send(record(open(1), frame('reset', 1), open(3)))
  const filler = frame('data', 1, new Uint8Array(60_000))
  for (let i = 0; i < 4_000; i++) peer.send(record(frame('data', 3, Uint8Array.of(i % 251)), filler))
  await settled()
  const seen: { bytes: Uint8Array }[] = []
  const items = (streams[1] as Stream).items()
  while (seen.reduce((sum, item) => sum + item.bytes.length, 0) < 4_000) {
    const { value } = await items.next()
    if (value?.type === 'data') seen.push(value)
  }
  expect(seen.length).toBeLessThan(10)
  expect(seen.reduce((sum, item) => sum + item.bytes.buffer.byteLength, 0)).toBeLessThan(10_000)
  expect(Buffer.concat(seen.map(item => item.bytes))).toEqual(
    Buffer.from(Array.from({ length: 4_000 }, (_, i) => i % 251)),
  )
})

test('neither does one who changes the lane with each of them', async () => {
  const inbox = new Inbox(() => undefined)
  const before = heldBytes()
  for (let i = 0; i < 1_000_000; i++) inbox.pushData(i % 2, Uint8Array.of(i % 251))
  expect(heldBytes() - before).toBeLessThan(32 * 2 ** 20)
  for (let i = 0; i < 1_000_000; i++) {
    const item = inbox.shift()
    if (item?.type !== 'data' || item.lane !== i % 2 || item.bytes.length !== 1 || item.bytes[0] !== i % 251) {
      throw new Error(`item ${i} is another`)
    }
  }
  expect(inbox.shift()).toBeUndefined()
})

test('nothing begins any more once an answer found the transport gone, and a reset never fails', async () => {
  const [peer, end] = transportPair()
  let opened = 0
  const gone = () => {
    throw new MortarError('connection-lost')
  }
  const mux = new Mux({
    transport: { ...end, send: gone, rekeySending() {}, rekeyReceiving() {} },
    clock: wallClock,
    onOpen(stream) {
      opened++
      stream.reset('bad-request')
    },
  })
  const opens = Array.from({ length: 5_000 }, (_, i) => frame('open', 2 * i + 1, Uint8Array.of(0)))
  peer.send(record(...opens))
  await expect(mux.run()).rejects.toMatchObject({ code: 'connection-lost' })
  // as many refusals as one record takes, and the one that no longer fitted
  expect(opened).toBeGreaterThan(2_000)
  expect(opened).toBeLessThan(4_000)
  const late = new Stream(20_001, mux)
  late.reset('internal')
  expect(late.signal.aborted).toBe(true)
})

test('a ping that finds the transport gone leaves no timer behind', async () => {
  const [, end] = transportPair()
  const timers: { callback: () => void }[] = []
  let now = 0
  const clock = {
    now: () => now,
    after(_ms: number, callback: () => void) {
      const timer = { callback }
      timers.push(timer)
      return () => void timers.splice(timers.indexOf(timer), 1)
    },
  }
  const gone = () => {
    throw new MortarError('connection-lost')
  }
  const mux = new Mux({
    transport: { ...end, send: gone, rekeySending() {}, rekeyReceiving() {} },
    clock,
    onReady() {},
  })
  const ended = mux.run()
  mux.openStream(Uint8Array.of(0))
  // the record is full: the ping has to send it first
  mux.sendFrame('data', 1, new Uint8Array(mux.room()))
  now = LIMITS.pingMs
  timers.shift()?.callback()
  await expect(ended).rejects.toMatchObject({ code: 'connection-lost' })
  expect(timers).toEqual([])
})

test('a flood of pings is answered by few pongs while they cannot leave', async () => {
  const { peer } = agentMux(() => new Promise(() => {}))
  peer.send(record(...Array.from({ length: 5_000 }, () => frame('ping', 0))))
  await settled()
  expect(decodeFrames((await peer.receive()) as Uint8Array)).toHaveLength(1)
})

test('an agent whose answers are not taken takes no more questions', async () => {
  const { peer, received } = agentMux(() => new Promise(() => {}))
  for (let i = 0; i < 50; i++) peer.send(record(open(2 * i + 1)))
  await settled()
  expect(received).toHaveLength(1)
})

test.each([
  ['lane 1 towards the agent', () => [open(1), frame('data', 1, Uint8Array.of(1), 1)]],
  ['an even stream id below one that was opened', () => [open(5), frame('data', 2, Uint8Array.of(1))]],
  ['a stream id that is opened twice', () => [open(1), open(1)]],
  ['a stream id that goes back', () => [open(3), open(1)]],
  [
    'credit for what was not sent',
    () => [open(1), frame('window', 1, encodeCredit({ read: 1, window: LIMITS.windowBytes, messages: 0 }))],
  ],
  [
    'a window that shrinks',
    () => [open(1), frame('window', 1, encodeCredit({ read: 0, window: LIMITS.windowBytes - 1, messages: 0 }))],
  ],
  [
    'credit for messages that were not sent',
    () => [open(1), frame('window', 1, encodeCredit({ read: 0, window: LIMITS.windowBytes, messages: 1 }))],
  ],
  [
    'a window above the largest',
    () => [open(1), frame('window', 1, encodeCredit({ read: 0, window: LIMITS.mostWindowBytes + 1, messages: 0 }))],
  ],
  [
    'data beyond the window for the third time',
    () => [open(1), open(3), open(5), ...[1, 3, 5].flatMap(id => [full(id), frame('data', id, Uint8Array.of(1))])],
  ],
  ['data after the end', () => [open(1), frame('end', 1, new Uint8Array(8)), frame('data', 1, Uint8Array.of(1))]],
  ['a secret that shares its record', () => [open(1), frame('secret', 1, Uint8Array.of(1))]],
])('%s ends the session as protocol-violation', async (_name, make) => {
  const { peer, ended } = agentMux()
  const frames = make()
  if (frames.length > 3) for (const item of frames) peer.send(record(item))
  else peer.send(record(...frames))
  expect(await ended).toBe('protocol-violation')
})

test('a count of bytes that is not the received one ends the session as truncated', async () => {
  const { peer, ended } = agentMux()
  peer.send(record(open(1), frame('data', 1, Uint8Array.of(1)), frame('end', 1, new Uint8Array(8))))
  expect(await ended).toBe('truncated')
})

test('a secret that is refused is wiped, however it was wrong', async () => {
  const secret = frame('secret', 1, encodeText('a secret'))
  const cases = [
    [record(open(1)), record(secret, secret)],
    [record(open(1)), record(frame('end', 1, new Uint8Array(8))), record(secret)],
    [record(frame('secret', 9, secret.body))],
  ]
  for (const records of cases) {
    const { peer, received, ended } = agentMux()
    for (const bytes of records) peer.send(bytes)
    expect(await ended).toBe('protocol-violation')
    expect(
      Buffer.from(received.at(-1) as Uint8Array)
        .subarray(0, 16)
        .includes('a secret'),
    ).toBe(false)
  }
})
