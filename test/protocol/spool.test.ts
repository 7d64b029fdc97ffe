/** The spool of a kept call against a plain list of what was put into it. SPEC §8.2 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Spool } from '../../protocol/kept/spool.ts'
import { heldBytes } from '../support/held-bytes.ts'

/** One position each: a byte on a lane, or a message. */
type Unit = { readonly lane: number; readonly byte: number } | { readonly body: number }

function unitsFrom(spool: Spool): Unit[] {
  const units: Unit[] = []
  for (let at = spool.start; at < spool.end; ) {
    const piece = spool.at(at)
    if (piece?.type === 'data') for (const byte of piece.bytes) units.push({ lane: piece.lane, byte })
    else if (piece) units.push({ body: piece.body[0] as number })
    at = spool.start + units.length
  }
  return units
}

const isMessage = (unit: Unit) => 'body' in unit

test('holds what was put in and not released, in order, from any position', () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant('data'),
      lane: fc.nat(1),
      size: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constant(20_000)),
    }),
    fc.record({ do: fc.constant('message') }),
    fc.record({ do: fc.constant('releaseTo'), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ do: fc.constant('releaseRead'), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const spool = new Spool()
      const all: Unit[] = []
      let start = 0
      for (const each of steps as { do: string; lane: number; size: number; part: number }[]) {
        if (each.do === 'data') {
          const bytes = Uint8Array.from({ length: each.size }, (_, i) => (all.length + i) % 251)
          for (const byte of bytes) all.push({ lane: each.lane, byte })
          spool.pushData(each.lane, bytes)
        } else if (each.do === 'message') {
          spool.pushMessage(Uint8Array.of(all.length % 251), undefined, 0)
          all.push({ body: all.length % 251 })
        } else {
          // a reader has read so many positions; what stands before them goes, whole pieces at least
          const position = Math.max(start, Math.floor(each.part * all.length))
          const read = all.slice(0, position)
          const messages = read.filter(isMessage).length
          if (each.do === 'releaseTo') spool.releaseTo(position)
          else spool.releaseRead(read.length - messages, messages)
          expect(spool.start).toBeLessThanOrEqual(Math.max(position, start))
          if (each.do === 'releaseTo') expect(spool.start).toBe(position)
          start = spool.start
        }
        expect(spool.end).toBe(all.length)
        expect(spool.before(spool.end).messages).toBe(all.filter(isMessage).length)
      }
      expect(unitsFrom(spool)).toEqual(all.slice(spool.start))
    }),
    { numRuns: 200 },
  )
})

test('of messages with a key only the last stays of those that are not sent, and the rest moves up', () => {
  const spool = new Spool()
  spool.pushMessage(Uint8Array.of(1), 'size', 0)
  spool.pushData(0, Uint8Array.of(7, 8))
  spool.pushMessage(Uint8Array.of(2), 'size', 1)
  spool.pushMessage(Uint8Array.of(3), undefined, 1)
  spool.pushMessage(Uint8Array.of(4), 'size', 1)
  expect(unitsFrom(spool)).toEqual([{ body: 1 }, { lane: 0, byte: 7 }, { lane: 0, byte: 8 }, { body: 3 }, { body: 4 }])
  expect([spool.end, spool.messagesFrom(1)]).toEqual([5, 2])
})

test.each([
  ['on one lane', 1],
  ['on two in turn', 2],
])('single bytes, %s, cost the memory that is counted', (_, lanes) => {
  const spool = new Spool()
  const before = heldBytes()
  for (let i = 0; i < 1_000_000; i++) {
    spool.pushData(i % lanes, Uint8Array.of(i % 251))
    spool.bound()
  }
  expect(spool.bytes).toBeLessThanOrEqual(LIMITS.spoolBytes)
  expect(spool.end).toBe(1_000_000)
  expect(heldBytes() - before).toBeLessThan(2 * LIMITS.spoolBytes)
  expect(unitsFrom(spool).every((unit, i) => 'byte' in unit && unit.byte === (spool.start + i) % 251)).toBe(true)
})
