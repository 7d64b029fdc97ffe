/** What a bench is, and its goals: ratios of two figures of the same run, never figures alone. */

export interface Goal {
  readonly id: string
  readonly what: string
  /** names of figures */
  readonly ours: string
  readonly peer: string
  /** the least ratio that passes, and the wanted one */
  readonly gate: number
  readonly aim: number
}

export interface Measured {
  /** by name, one number per round */
  readonly figures: Readonly<Record<string, readonly number[]>>
  readonly unit: string
  /** goals that cannot be judged on this machine, and why */
  readonly skipped: Readonly<Record<string, string>>
}

export interface Bench {
  readonly name: string
  readonly says: string
  measure(rounds: number, tell: (text: string) => void): Promise<Measured>
  readonly goals: readonly Goal[]
}

export interface Judged extends Goal {
  readonly bench: string
  readonly unit: string
  readonly oursMedian: number
  readonly peerMedian: number
  /** ours / peer within each round */
  readonly ratios: readonly number[]
  readonly ratio: number
  readonly verdict: 'aim' | 'gate' | 'missed' | 'skipped'
  readonly why: string
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const [low = Number.NaN, high = Number.NaN] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]]
  return (low + high) / 2
}

/** Holds the figures against a goal: the median of the ratios within rounds. */
export function judge(bench: Bench, goal: Goal, { figures, unit, skipped }: Measured): Judged {
  const [ours, peer] = [figures[goal.ours] ?? [], figures[goal.peer] ?? []]
  const ratios = ours.map((figure, i) => figure / (peer[i] ?? Number.NaN))
  const ratio = median(ratios)
  const why = skipped[goal.id] ?? ''
  const verdict = why ? 'skipped' : ratio >= goal.aim ? 'aim' : ratio >= goal.gate ? 'gate' : 'missed'
  return {
    ...goal,
    bench: bench.name,
    unit,
    oursMedian: median(ours),
    peerMedian: median(peer),
    ratios,
    ratio,
    verdict,
    why,
  }
}
