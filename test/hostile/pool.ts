/** Runs the pieces of a hostile run in processes of their own, and tells each job's result once its pieces are there. */
import { type ChildProcess, fork } from 'node:child_process'
import { type JobResult, join, type Piece, runPiece } from './jobs.ts'

const WORKER = new URL('worker.ts', import.meta.url)

type Run = (piece: Piece) => Promise<JobResult>

/** A process that runs one piece at a time. */
function startWorker(): { run: Run; end: () => void } {
  const child: ChildProcess = fork(WORKER, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const run: Run = piece =>
    new Promise((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`a process of the run ended with ${code}`))
      child.once('exit', ended)
      child.once('message', (told: { result?: JobResult; error?: string }) => {
        child.off('exit', ended)
        if (told.result) resolve(told.result)
        else reject(new Error(told.error))
      })
      child.send(piece)
    })
  return { run, end: () => child.disconnect() }
}

export interface Told {
  readonly index: number
  readonly result: JobResult
}

/** `workers`: processes; with 0 everything runs in this one. `tell` is called once for each index, in their order. */
export async function runPieces(pieces: readonly Piece[], workers: number, tell: (told: Told) => void): Promise<void> {
  const waiting = [...pieces]
  const left = new Map<number, number>()
  for (const { index } of pieces) left.set(index, (left.get(index) ?? 0) + 1)
  const order = [...left.keys()].sort((a, b) => a - b)
  const held = new Map<number, Told>()
  const work = async (run: Run) => {
    for (let piece = waiting.shift(); piece; piece = waiting.shift()) {
      const { index } = piece
      const result = await run(piece)
      const before = held.get(index)
      held.set(index, { index, result: before ? join(before.result, result) : result })
      left.set(index, (left.get(index) ?? 0) - 1)
      while (order.length > 0 && left.get(order[0] as number) === 0) tell(held.get(order.shift() as number) as Told)
    }
  }
  if (workers === 0) return work(runPiece)
  const started = Array.from({ length: workers }, startWorker)
  try {
    await Promise.all(started.map(({ run }) => work(run)))
  } finally {
    for (const { end } of started) end()
  }
}
