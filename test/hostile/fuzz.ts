/**
 * Fuzzing of parsers: true inputs, bent in many ways. A parser may refuse with its own codes and do nothing else: no other
 * error, no input that takes long, no memory kept.
 */
import { MortarError } from '../../protocol/core/errors.ts'
import { heldBytes } from '../support/held-bytes.ts'
import type { Parser } from './parsers.ts'
import { Random } from './random.ts'

const HANG_MS = 50
const MOST_GROWTH_BYTES = 32 * 2 ** 20
const MOST_BYTES = 20_000
const INTERESTING = [0, 1, 0x17, 0x18, 0x1f, 0x3b, 0x5b, 0x7f, 0x80, 0x9f, 0xbf, 0xc2, 0xf7, 0xf9, 0xfb, 0xff]

export interface Finding {
  readonly what: 'crash' | 'hang'
  readonly why: string
  /** hex */
  readonly input: string
}

export interface FuzzResult {
  readonly parser: string
  readonly tried: number
  /** inputs that were taken for true */
  readonly accepted: number
  readonly slowestMs: number
  readonly growthBytes: number
  readonly findings: readonly Finding[]
}

export const sound = (result: FuzzResult): boolean =>
  result.tried > 0 && result.findings.length === 0 && result.growthBytes < MOST_GROWTH_BYTES

type Mutation = (input: Uint8Array, random: Random, other: Uint8Array) => Uint8Array

function spliceIn(input: Uint8Array, at: number, removed: number, added: Uint8Array): Uint8Array {
  const rest = input.subarray(at + removed)
  const spliced = new Uint8Array(at + added.length + rest.length)
  spliced.set(input.subarray(0, at))
  spliced.set(added, at)
  spliced.set(rest, at + added.length)
  return spliced
}

const MUTATIONS: readonly Mutation[] = [
  (input, random) => {
    const changed = input.slice()
    const at = random.below(input.length)
    changed[at] = (changed[at] ?? 0) ^ (1 << random.below(8))
    return changed
  },
  (input, random) => spliceIn(input, random.below(input.length), 1, Uint8Array.of(random.pick(INTERESTING))),
  (input, random) => spliceIn(input, random.below(input.length + 1), 0, random.bytes(1 + random.below(8))),
  (input, random) => spliceIn(input, random.below(input.length + 1), random.below(9), new Uint8Array(0)),
  (input, random) => input.slice(0, random.below(input.length + 1)),
  // a length or number that is as large as can be
  (input, random) => {
    const size = random.pick([1, 2, 4, 8])
    const number = new Uint8Array(size).fill(random.pick([0, 0x7f, 0x80, 0xff]))
    return spliceIn(input, random.below(input.length + 1), size, number)
  },
  // a part of itself again, or a part of another
  (input, random) => {
    const [from, length] = [random.below(input.length + 1), random.below(64)]
    return spliceIn(input, random.below(input.length + 1), 0, input.slice(from, from + length))
  },
  (input, random, other) => {
    const [from, length] = [random.below(other.length + 1), random.below(64)]
    return spliceIn(input, random.below(input.length + 1), 0, other.slice(from, from + length))
  },
  (input, random, other) => spliceIn(input, random.below(input.length + 1), input.length, other),
  (_input, random) => random.bytes(random.below(64)),
]

function makeInput(parser: Parser, random: Random): Uint8Array {
  let input = random.pick(parser.corpus)
  // one in sixteen stays true, so that the way past the first check is taken too
  if (random.below(16) === 0) return input
  for (let i = 1 + random.below(4); i > 0; i--) {
    input = random.pick(MUTATIONS)(input, random, random.pick(parser.corpus))
  }
  return input.length > MOST_BYTES ? input.subarray(0, MOST_BYTES) : input
}

/** Feeds `times` inputs to a parser. */
export function fuzz(parser: Parser, times: number, seed: string): FuzzResult {
  const findings: Finding[] = []
  let [accepted, slowestMs, before] = [0, 0, 0]
  const random = new Random(`${seed}/${parser.name}`)
  // what is compiled and cached on first use is no growth
  const warmUp = Math.min(200, times)
  for (let i = 0; i < times; i++) {
    if (i === warmUp - 1) before = heldBytes()
    const input = makeInput(parser, random)
    const kept = Buffer.from(input).toString('hex')
    const [error, ms] = feed(parser, input, random)
    if (error === undefined) accepted++
    else if (!expected(parser, error)) findings.push({ what: 'crash', why: String(error), input: kept })
    // the machine may have been busy elsewhere: a hang is one every time, and takes this process's own time
    const truly = ms <= HANG_MS ? ms : Math.min(ms, ...[1, 2, 3].map(() => costMs(parser, kept, random)))
    if (truly > HANG_MS) findings.push({ what: 'hang', why: `${truly.toFixed(0)} ms`, input: kept })
    slowestMs = Math.max(slowestMs, truly)
  }
  const growthBytes = Math.max(0, heldBytes() - before)
  return { parser: parser.name, tried: times, accepted, slowestMs, growthBytes, findings: findings.slice(0, 10) }
}

/** Time of the processor that an input takes, in ms. */
function costMs(parser: Parser, hex: string, random: Random): number {
  const before = process.cpuUsage()
  feed(parser, Buffer.from(hex, 'hex'), random)
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1_000
}

function feed(parser: Parser, input: Uint8Array, random: Random): [unknown, number] {
  const start = performance.now()
  try {
    parser.parse(input, random)
    return [undefined, performance.now() - start]
  } catch (thrown) {
    return [thrown, performance.now() - start]
  }
}

function expected(parser: Parser, thrown: unknown): boolean {
  if (thrown instanceof MortarError) return parser.codes.includes(thrown.code)
  return thrown instanceof Error && parser.mayThrow?.(thrown) === true
}
