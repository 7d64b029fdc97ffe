/** The demo's timeline: one line per stage with its seconds, signs of life in between, and the table at the end. */
const TICK_MS = 2_000

interface Row {
  readonly stage: string
  readonly seconds: number
  readonly done: boolean
}

export class Timeline {
  readonly #rows: Row[] = []
  readonly #started = performance.now()

  readonly #signal: AbortSignal

  /** `signal`: begins no further stage once it is aborted. */
  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  /** Runs a stage. `say` adds a line below it; what it returns is the caller's. Fails with the signal's reason. */
  async stage<T>(stage: string, run: (say: (line: string) => void) => Promise<T>): Promise<T> {
    this.#signal.throwIfAborted()
    try {
      return await this.lastStage(stage, run)
    } catch (cause) {
      // Ctrl-C ends the programs of a stage too: that is not what went wrong
      this.#signal.throwIfAborted()
      throw cause
    }
  }

  /** A stage that runs even after an interruption: to clean up. */
  async lastStage<T>(stage: string, run: (say: (line: string) => void) => Promise<T>): Promise<T> {
    const started = performance.now()
    const seconds = () => (performance.now() - started) / 1000
    console.log(`• ${stage}`)
    const say = (line: string) => console.log(line.replace(/^/gm, '    '))
    const ticking = setInterval(() => say(`… ${seconds().toFixed(0)} s`), TICK_MS)
    let done = false
    try {
      const result = await run(say)
      done = true
      return result
    } finally {
      clearInterval(ticking)
      this.#rows.push({ stage, seconds: seconds(), done })
      console.log(`  ${done ? '✓' : '✗'} ${seconds().toFixed(1)} s`)
    }
  }

  print(): void {
    const width = Math.max(...this.#rows.map(row => row.stage.length))
    console.log('\nTimeline')
    for (const { stage, seconds, done } of this.#rows) {
      console.log(`  ${stage.padEnd(width)}  ${seconds.toFixed(1).padStart(6)} s  ${done ? 'done' : 'FAILED'}`)
    }
    console.log(`  ${'all'.padEnd(width)}  ${((performance.now() - this.#started) / 1000).toFixed(1).padStart(6)} s`)
  }
}
