/** A runner that its user has taken over: whatever it says to the agent, it ends its own programs and nothing else. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RunnerLink } from '../../agent/guest/runner-link.ts'
import { encodeData, encodeMessage, FrameReader } from '../../agent/runner/frames.ts'
import { CREDIT_BYTES, RUNNER_VERSION } from '../../agent/runner/messages.ts'
import { hello, start } from './fake-runner.ts'

let folder: string
let server: Server
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-hostile-'))
  path = join(folder, 'sock')
})
afterEach(() => {
  server.close()
  rmSync(folder, { recursive: true, force: true })
})

const lost = { code: 'runner-lost' }

/** A runner that answers each message as the test says. */
async function listen(answer: (type: string, socket: Socket) => void): Promise<void> {
  server = createServer(socket => {
    const reader = new FrameReader()
    socket.on('error', () => {})
    socket.on('data', chunk => {
      for (const frame of reader.push(chunk))
        answer(frame.type === 'data' ? 'data' : (JSON.parse(frame.json) as { type: string }).type, socket)
    })
  })
  await new Promise<void>(resolve => server.listen(path, resolve))
}

const held = { type: 'held', program: 1, memo: '', start: 0, end: 0, taken: 0, over: false }

test.each<[string, readonly Uint8Array[]]>([
  ['no frame', [Buffer.from('HTTP/1.1 200 OK\r\n\r\n')]],
  ['a frame of 4 GiB', [Buffer.from([255, 255, 255, 255, 0])]],
  ['an empty frame', [Buffer.alloc(8)]],
  ['no JSON', [Buffer.concat([Buffer.from([0, 0, 0, 4, 0]), Buffer.from('abc')])]],
  ['another version', [encodeMessage({ type: 'hello', version: 99, programs: 0 })]],
  ['more programs than there can be', [encodeMessage({ type: 'hello', version: RUNNER_VERSION, programs: 1e9 })]],
  [
    'a program twice',
    [encodeMessage({ type: 'hello', version: 1, programs: 2 }), encodeMessage(held), encodeMessage(held)],
  ],
  [
    'a program that ends before it starts',
    [encodeMessage({ type: 'hello', version: 1, programs: 1 }), encodeMessage({ ...held, start: 9 })],
  ],
  ['something before hello', [encodeMessage({ type: 'pong' }), hello]],
  ['a message that there is not', [encodeMessage({ type: 'run', argv: ['reboot'] })]],
])('it says %s instead of hello', async (_, said) => {
  await listen((_type, socket) => void socket.write(Buffer.concat(said)))
  await expect(RunnerLink.open(path)).rejects.toMatchObject(lost)
})

/** What it says when it is asked for the output of program 1. */
const data = (position: number, length: number, more: object = {}) =>
  encodeData({ program: 1, position, lane: 0, bytes: new Uint8Array(length), ...more })
const from = (position: number) => encodeMessage({ type: 'from', program: 1, position })
const exit = (more: object = {}) =>
  encodeMessage({ type: 'exit', program: 1, position: 0, code: 0, signal: null, ...more })

test.each<[string, readonly Uint8Array[]]>([
  ['output before where it begins', [from(5), data(4, 1)]],
  ['output with a hole', [from(0), data(1, 1)]],
  ['more than it has credit for', [from(0), ...Array.from({ length: 6 }, (_, i) => data(i * 65_536, 65_536))]],
  ['single bytes without end', [from(0), ...Array.from({ length: CREDIT_BYTES / 65 + 2 }, (_, i) => data(i, 1))]],
  ['output on a third lane', [from(0), data(0, 1, { lane: 2 })]],
  ['no bytes at all', [from(0), data(0, 0)]],
  ['output of a program that there is not', [data(0, 1, { program: 7 })]],
  ['where it begins, twice', [from(0), from(0)]],
  ['an exit that is none', [from(0), exit({ code: 256 })]],
  ['a signal that is none', [from(0), exit({ code: null, signal: 'x'.repeat(60) })]],
  ['something behind the exit', [from(0), exit(), data(1, 1)]],
  ['that it took input which nobody sent', [encodeMessage({ type: 'taken', program: 1, position: 1 })]],
  ['that the program runs, twice', [encodeMessage({ type: 'started', program: 1 })]],
  ['that it is over, twice', Array.from({ length: 2 }, () => encodeMessage({ type: 'over', program: 1 }))],
  ['hello again', [hello]],
  ['an answer to a question that nobody asked', [encodeMessage({ type: 'pong' })]],
  ['half a frame, and goes', [Buffer.from([0, 0])]],
])('it says %s', async (what, said) => {
  await listen((type, socket) => {
    if (type === 'hello') socket.write(hello)
    if (type === 'start') socket.write(encodeMessage({ type: 'started', program: 1 }))
    if (type === 'read') {
      socket.write(Buffer.concat(said))
      if (what.startsWith('half')) socket.end()
    }
  })
  const link = await RunnerLink.open(path)
  const program = await link.start(start)
  const reading = program.open(0).catch(() => undefined)
  program.over.catch(() => undefined)
  expect(await link.lost).toMatchObject(lost)
  await reading
  await expect(link.start(start)).rejects.toMatchObject(lost)
})

test('it goes away while a program is being started, or talked to', async () => {
  await listen((type, socket) => {
    if (type === 'hello') socket.write(hello)
    if (type === 'start') socket.write(encodeMessage({ type: 'started', program: 1 }))
    if (type === 'data') socket.destroy()
  })
  const link = await RunnerLink.open(path)
  const program = await link.start(start)
  await expect(program.input({ type: 'data', bytes: new Uint8Array(9) })).rejects.toMatchObject(lost)
  await expect(program.open(0)).rejects.toMatchObject(lost)
  await expect(program.over).rejects.toMatchObject(lost)
})
