/** The log of a program's output at its runner: positions, credit, what is dropped and what waits. SPEC §8.2 */
import { expect, test } from 'vitest'
import { type Outlet, OutputLog } from '../../agent/runner/output-log.ts'
import { LIMITS } from '../../protocol/core/limits.ts'

const options = { whenFull: 'wait', spoolBytes: LIMITS.spoolBytes, detached: false } as const
const CREDIT = 1_000_000

/** Collects what is sent: text of each lane, and the exit with its position. */
function outlet() {
  const seen = { text: ['', ''], next: undefined as number | undefined, exit: undefined as number | undefined }
  const out: Outlet = {
    data(position, lane, bytes) {
      expect(position).toBe(seen.next ?? position)
      seen.next = position + bytes.length
      seen.text[lane] += Buffer.from(bytes).toString()
    },
    exit: position => {
      seen.exit = position
    },
  }
  return { seen, out }
}
const text = (content: string) => Buffer.from(content)
const read = (log: OutputLog, from = 0, credit = CREDIT) => {
  const { seen, out } = outlet()
  const begins = log.read(from, credit, out)
  log.begin()
  return { seen, begins }
}

test('output is sent from any position that is held, the exit last, and again to who asks again', () => {
  const log = new OutputLog(options)
  log.push(0, text('one '))
  log.push(1, text('two '))
  log.close({ code: 0, signal: null })
  expect(read(log).seen).toMatchObject({ text: ['one ', 'two '], exit: 8 })
  expect(read(log, 6).seen).toMatchObject({ text: ['', 'o '], exit: 8 })
  log.release(6)
  expect(read(log).begins).toBe(6)
})

test('what was sent and not released is kept, whatever its reader got', () => {
  const log = new OutputLog(options)
  log.push(0, text('x'.repeat(1_000)))
  read(log, 0, 100)
  log.leave()
  expect(read(log).seen.text[0]).toHaveLength(1_000)
})

test('without credit nothing is sent, and a small piece costs more than its bytes', () => {
  const log = new OutputLog(options)
  const { seen, out } = outlet()
  log.read(0, 100, out)
  log.begin()
  for (let i = 0; i < 10; i++) log.push(0, text('x'))
  expect(seen.text[0]).toBe('xx')
  log.addCredit(1_000)
  expect(seen.text[0]).toBe('x'.repeat(10))
})

test('a full log makes a program wait, and one that drops drops only while nobody reads', () => {
  const block = new Uint8Array(65_536)
  const fill = (log: OutputLog) => {
    let count = 0
    while (!log.full && count++ < 200) log.push(0, block)
    return count
  }
  expect(fill(new OutputLog(options))).toBeLessThan(80)
  const dropping = new OutputLog({ ...options, whenFull: 'drop' })
  expect(fill(dropping)).toBeGreaterThan(200)
  expect(dropping.start).toBeGreaterThan(0)
  const { begins } = read(dropping, 0, 1)
  expect(begins).toBe(dropping.start)
  expect(fill(dropping)).toBeLessThan(80)
})

test('of a detached program what its children write behind its end is kept until the end is fetched', () => {
  const log = new OutputLog({ ...options, whenFull: 'drop', detached: true })
  log.push(0, text('a'))
  log.close({ code: 3, signal: null })
  expect(log.over).toBe(true)
  log.push(0, text('later'))
  // who got the end and went without having read it has fetched nothing
  read(log)
  log.leave()
  log.push(0, text('!'))
  const first = read(log)
  expect(first.seen).toMatchObject({ text: ['alater!', ''], exit: 7 })
  log.release(8)
  log.push(0, text('too late'))
  expect(read(log).seen).toMatchObject({ text: ['alater!', ''], exit: 7 })
})

test('what was taken stays as it was, though the memory that it came in is used again', () => {
  const log = new OutputLog(options)
  // above the size of pieces that are joined
  const memory = Buffer.alloc(65_536, 'a')
  log.push(0, memory.subarray(0, 65_536))
  memory.fill('b')
  log.close({ code: 0, signal: null })
  expect(read(log).seen.text[0]).toBe('a'.repeat(65_536))
})
