/** Sessions in any order of commands against their model. SPEC §7 */
import { expect, test } from 'vitest'
import { Real } from '../hostile/model.ts'
import { runModel } from '../hostile/model-steps.ts'

const RUNS = Number(process.env.MODEL_RUNS ?? 1_000)
const SEED = Number(process.env.MODEL_SEED ?? Date.now() & 0x7fffffff)

test(`${RUNS} sessions of random commands lose, repeat and reorder nothing and end once`, async () => {
  console.info(`seed of the model: ${SEED}`)
  const counts = await runModel(RUNS, SEED)
  console.info(counts)
  expect(counts.runs).toBe(RUNS)
  expect(counts.streams).toBeGreaterThan(RUNS)
  expect(counts.filledWindows).toBeGreaterThan(RUNS / 50)
}, 1_800_000)

test('the model notices a byte that is not the one that was sent, and one that is missing', async () => {
  for (const harm of ['another', 'missing']) {
    const real = await Real.start()
    await real.open()
    const [stream] = real.streams
    real.write(stream as never, 'client', 100)
    // as if another had been meant, or one more
    if (harm === 'another') real.streams[0] = Object.assign(stream as never, { id: 1 })
    else (stream as unknown as { flows: { client: { given: number } } }).flows.client.given++
    await expect(real.finish()).rejects.toThrow(/not the one|ended early/)
  }
})
