/** Every single-bit flip of every handshake message: its reader sends nothing more, and no session comes about. SPEC §5 */
import type { Suite } from '../../protocol/channel/suite.ts'
import { flipBit } from './bytes.ts'
import { Random } from './random.ts'
import { type Attack, honest, otherEnd, play } from './stage.ts'
import { count, newTally, type Tally } from './tally.ts'

const MESSAGES = 3

export interface FlipOptions {
  readonly seed: string
  readonly suite?: Suite
  readonly broken?: boolean
  /** every n-th bit instead of each */
  readonly stride?: number
}

/** One tally per handshake message. */
export async function runFlips({ seed, suite, broken = false, stride = 1 }: FlipOptions): Promise<Tally[]> {
  const stage = (name: string) => ({ random: new Random(name), broken, ...(suite ? { suite } : {}) })
  const { transcript } = await play(stage(seed), honest)
  const tallies: Tally[] = []
  for (const [number, { from, packet }] of transcript.slice(0, MESSAGES).entries()) {
    const tally = newTally(`flip a bit of handshake message ${number + 1}`)
    const [index, victim] = [number >> 1, otherEnd(from)]
    for (let bit = 0; bit < packet.length * 8; bit += stride) {
      const attack: Attack = {
        fault: { from, index, victim },
        carry: (sender, i, carried) => [
          [otherEnd(sender), sender === from && i === index ? flipBit(carried, bit) : carried],
        ],
      }
      const name = `${seed}/flip/${number + 1}/${bit}`
      const result = await play(stage(name), attack)
      if (!result.reached) continue
      count(tally, !result.opened && result.packetsAfterFault === 0, result.bytesAfterFault, name)
    }
    tallies.push(tally)
  }
  return tallies
}
