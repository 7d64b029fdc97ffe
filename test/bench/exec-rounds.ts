/** Ways to run a program somewhere, timed in turns, so that a busy machine slows all of them alike. */
import { type Measured, median } from './benches.ts'

/** ms between questions whether a program of qemu-ga has ended, as its callers ask; and the way that asks without a pause */
export const POLL_MS = 10
export const EAGER_AGENT = 'qemu-ga, no pause'

export interface Way {
  readonly name: string
  /** samples in a round: fewer of what takes long */
  readonly perRound: number
  /** ms that running `true` took */
  once(): Promise<number>
  /** runs any program, for a look at whether the way does what it should */
  run(argv: readonly string[]): Promise<{ readonly code: number | null; readonly stdout: string }>
}

/** Fails unless each way gives back a program's output and its exit status. */
async function verify(ways: readonly Way[]): Promise<void> {
  for (const way of ways) {
    const printed = await way.run(['/usr/bin/printf', 'checked'])
    const failed = await way.run(['/bin/false'])
    if (printed.code !== 0 || printed.stdout !== 'checked' || failed.code !== 1) {
      throw new Error(`${way.name} gives back other results: ${JSON.stringify({ printed, failed })}`)
    }
  }
}

/** Where a program takes as long to start as polls are apart, an agent that is polled looks no worse than one that pushes. */
function unjudgedOf(eager: readonly number[]): Record<string, string> {
  const ms = median(eager)
  if (!(ms > POLL_MS / 2)) return {}
  return {
    X2: `a program takes ${ms.toFixed(1)} ms here by qemu-ga alone: too long for polls every ${POLL_MS} ms to show`,
  }
}

/** Figures are the medians of each round in ms, best the least of all. The first round warms up and is not counted. */
export async function measureWays(
  ways: readonly Way[],
  rounds: number,
  tell: (text: string) => void,
): Promise<Pick<Measured, 'figures' | 'best' | 'unit' | 'unjudged'>> {
  await verify(ways)
  const figures: Record<string, number[]> = Object.fromEntries(ways.map(({ name }) => [name, []]))
  const best: Record<string, number> = {}
  const most = Math.max(...ways.map(way => way.perRound))
  for (let round = 0; round <= rounds; round++) {
    const samples = new Map(ways.map(way => [way.name, [] as number[]]))
    for (let i = 0; i < most; i++) {
      for (const way of i % 2 === 0 ? ways : ways.toReversed()) {
        if (i < way.perRound) samples.get(way.name)?.push(await way.once())
      }
    }
    for (const [name, taken] of samples) {
      tell(`round ${round}: ${name} ${median(taken).toFixed(1)} ms`)
      if (round === 0) continue
      figures[name]?.push(median(taken))
      best[name] = Math.min(best[name] ?? Number.POSITIVE_INFINITY, ...taken)
    }
  }
  return { figures, best, unit: 'ms', unjudged: unjudgedOf(figures[EAGER_AGENT] ?? []) }
}
