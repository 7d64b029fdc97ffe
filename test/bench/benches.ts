/** What a bench is, and its goals: ratios of two figures of the same run, never figures alone. */

export interface Goal {
  readonly id: string
  readonly what: string
  /** names of figures */
  readonly ours: string
  readonly peer: string
  /** whether more of ours is better, or less; more unless given */
  readonly better?: 'more' | 'less'
  /** the ratio that just passes, and the wanted one; null where the figures are only told */
  readonly gate: number | null
  readonly aim: number | null
}

export interface Measured {
  /** by name, one number per round */
  readonly figures: Readonly<Record<string, readonly number[]>>
  /** by name, the best of all samples, where a figure is the median of several */
  readonly best?: Readonly<Record<string, number>>
  readonly unit: string
  /** goals that were not measured, and why */
  readonly skipped: Readonly<Record<string, string>>
  /** goals whose figures say nothing on this machine, and why */
  readonly unjudged?: Readonly<Record<string, string>>
}

export interface Bench {
  readonly name: string
  /** true when it boots a VM, which is done when asked for only */
  readonly vm?: boolean
  readonly says: string
  measure(rounds: number, tell: (text: string) => void): Promise<Measured>
  readonly goals: readonly Goal[]
}

export interface Judged extends Goal {
  readonly bench: string
  readonly unit: string
  readonly oursMedian: number
  readonly peerMedian: number
  readonly oursBest: number
  readonly peerBest: number
  /** ours / peer within each round */
  readonly ratios: readonly number[]
  readonly ratio: number
  readonly verdict: 'aim' | 'gate' | 'missed' | 'skipped' | 'told'
  readonly why: string
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const [low = Number.NaN, high = Number.NaN] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]]
  return (low + high) / 2
}

/** Holds the figures against a goal: the median of the ratios within rounds. */
export function judge(
  bench: Bench,
  goal: Goal,
  { figures, unit, skipped, unjudged = {}, best = {} }: Measured,
): Judged {
  const [ours, peer] = [figures[goal.ours] ?? [], figures[goal.peer] ?? []]
  const ratios = ours.map((figure, i) => figure / (peer[i] ?? Number.NaN))
  const ratio = median(ratios)
  const why = skipped[goal.id] ?? unjudged[goal.id] ?? ''
  const verdict = goal.id in skipped ? 'skipped' : why ? 'told' : verdictOf(goal, ratio)
  return {
    ...goal,
    bench: bench.name,
    unit,
    oursMedian: median(ours),
    peerMedian: median(peer),
    oursBest: best[goal.ours] ?? Number.NaN,
    peerBest: best[goal.peer] ?? Number.NaN,
    ratios,
    ratio,
    verdict,
    why,
  }
}

function verdictOf({ better = 'more', gate, aim }: Goal, ratio: number): Judged['verdict'] {
  if (gate === null || aim === null) return 'told'
  const reaches = (least: number) => (better === 'more' ? ratio >= least : ratio <= least)
  return reaches(aim) ? 'aim' : reaches(gate) ? 'gate' : 'missed'
}
