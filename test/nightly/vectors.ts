/** A1 and A2: every vector that is in the tree, through both back ends. */
import { readFileSync } from 'node:fs'
import { BACKENDS } from '../support/backends.ts'
import { type ChannelVector, runChannelVector } from '../support/channel-vector.ts'
import { nameOf, runVector, vectorsOf } from '../support/noise-vector.ts'
import { runVectorSet, WYCHEPROOF } from '../support/wycheproof.ts'
import { inDigits, type Outcome } from './outcome.ts'

const readVectorFile = (name: string) => readFileSync(new URL(`../vectors/${name}`, import.meta.url), 'utf8')
const backends = Object.entries(BACKENDS) as [keyof typeof BACKENDS, (typeof BACKENDS)[keyof typeof BACKENDS]][]

/** Published vectors of Noise, those of the second implementation, and those of our hybrid handshake. */
export async function runNoiseVectors(): Promise<Outcome> {
  const startMs = performance.now()
  const noise = ['noise.json', 'noise-patterns.json'].flatMap(name => vectorsOf(readVectorFile(name)))
  const hybrid = (JSON.parse(readVectorFile('channel.json')) as { vectors: ChannelVector[] }).vectors
  const failed: string[] = []
  const orTell = (name: string, run: Promise<void>) =>
    run.catch((thrown: Error) => void failed.push(`${name}: ${thrown.message}`))
  for (const [, backend] of backends) {
    for (const vector of noise) await orTell(nameOf(vector), runVector(vector, backend))
    for (const vector of hybrid) await orTell(vector.name, runChannelVector(vector, backend.suite))
  }
  return {
    id: 'A1',
    what: 'Noise vectors, both back ends',
    asked: 'all in the tree; 20 hybrid',
    done: `${inDigits(noise.length)} of Noise, ${hybrid.length} hybrid`,
    held: failed.length === 0 && hybrid.length >= 20,
    seconds: (performance.now() - startMs) / 1_000,
    note: failed.slice(0, 3).join('; '),
  }
}

export async function runWycheproof(): Promise<Outcome> {
  const startMs = performance.now()
  let [right, notOurs] = [0, 0]
  const wrong: string[] = []
  for (const [name, backend] of backends) {
    for (const set of WYCHEPROOF) {
      const result = await runVectorSet(set, backend, name)
      right += result.right
      notOurs += result.notOurs
      wrong.push(...result.wrong.map(id => `${name} ${set.name} ${id}`))
    }
  }
  const all = WYCHEPROOF.reduce((sum, { count }) => sum + count, 0)
  return {
    id: 'A2',
    what: 'Wycheproof, both back ends',
    asked: '100 %, 0 wrong',
    done: `${inDigits(right)} right, ${wrong.length} wrong`,
    held: wrong.length === 0 && right + notOurs === all * backends.length,
    seconds: (performance.now() - startMs) / 1_000,
    note: wrong.length > 0 ? wrong.slice(0, 5).join('; ') : `${notOurs} of sizes that no wrapper can be given`,
  }
}
