/**
 * Room on disk that is promised: a drive may be filled to its size, a system disk to its brick's, and both are sparse files
 * that begin empty. What is free must be enough for all of that, or the host is full one day in the middle of somebody's work.
 */
import { statfsSync, statSync } from 'node:fs'
import { MortarError } from '../../protocol/core/errors.ts'
import { RESERVE_BYTES } from './volume.ts'

/** A file that may grow. */
export interface DiskPromise {
  readonly path: string
  readonly mostBytes: number
}

/** ms for which what files take is believed; they grow all the time, and to ask for thousands of them takes a while */
const BELIEVED_MS = 2_000

export class DiskRoom {
  readonly #promises: () => readonly DiskPromise[]
  readonly #nowMs: () => number
  #seen = { atMs: Number.NEGATIVE_INFINITY, files: new Map<string, { dev: number; bytes: number }>() }

  /** `promises`: those made so far, all of them. */
  constructor(promises: () => readonly DiskPromise[], nowMs: () => number) {
    this.#promises = promises
    this.#nowMs = nowMs
  }

  /** Fails with no-space, and the numbers, unless `bytes` more can be promised in `folder`. */
  require(folder: string, bytes: number): void {
    const { bavail, bsize } = statfsSync(folder)
    const { dev } = statSync(folder)
    const promised = this.#promises().reduce((sum, { path, mostBytes }) => {
      const taken = this.#takenBy(path, dev)
      return taken === undefined ? sum : sum + Math.max(0, mostBytes - taken)
    }, 0)
    const freeBytes = bavail * bsize - RESERVE_BYTES
    if (bytes <= freeBytes - promised) return
    const mib = (amount: number) => `${Math.max(0, Math.floor(amount / 2 ** 20))} MiB`
    throw new MortarError(
      'no-space',
      `${mib(bytes)} asked for, ${mib(freeBytes - promised)} left of ${mib(freeBytes)} that ${folder} has free: ${mib(promised)} are promised to drives and VMs`,
    )
  }

  /** Bytes on disk; undefined for a file of another file system. One that is not made yet takes none. */
  #takenBy(path: string, dev: number): number | undefined {
    const age = this.#nowMs() - this.#seen.atMs
    if (age < 0 || age > BELIEVED_MS) this.#seen = { atMs: this.#nowMs(), files: new Map() }
    let file = this.#seen.files.get(path)
    if (!file) {
      const facts = statSync(path, { throwIfNoEntry: false })
      if (!facts) return 0
      file = { dev: facts.dev, bytes: facts.blocks * 512 }
      this.#seen.files.set(path, file)
    }
    return file.dev === dev ? file.bytes : undefined
  }
}
