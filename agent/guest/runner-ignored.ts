/**
 * What a runner may still say of programs that were forgotten: it was under way when they were. All of it is dropped, which
 * costs the agent time all the same, so it is counted.
 */
import type { Frame } from '../runner/frames.ts'
import { CREDIT_BYTES, PIECE_COST, PROGRAMS } from '../runner/messages.ts'
import { demand, type UnderWay } from './runner-reader.ts'

/** An honest runner has no more under way: where a program follows another, it started behind all that was said of that one. */
const MOST: UnderWay = { bytes: 2 * PROGRAMS * CREDIT_BYTES, messages: 8 * PROGRAMS }

export class Ignored {
  #bytes = 0
  #messages = 0

  /** A program was forgotten. */
  expect({ bytes, messages }: UnderWay): void {
    this.#bytes = Math.min(this.#bytes + bytes, MOST.bytes)
    this.#messages = Math.min(this.#messages + messages, MOST.messages)
  }

  /** One that is about none of the programs came. Throws RunnerViolation when it cannot have been under way. */
  take(frame: Frame): void {
    if (frame.type === 'data') this.#bytes -= frame.bytes.length + PIECE_COST
    else this.#messages--
    demand(this.#bytes >= 0 && this.#messages >= 0, 'much of programs that were forgotten')
  }
}
