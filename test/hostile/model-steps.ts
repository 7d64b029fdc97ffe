/** Model-based test of sessions: random commands in any order, shrunk to the shortest that break the model. SPEC §7 */
import fc from 'fast-check'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Real, type Side, type StreamModel, turns } from './model.ts'

/** The model is nothing but whether the session is open; the streams' own models check themselves. */
interface Model {
  open: boolean
}
type Step = fc.AsyncCommand<Model, Real>

const MOST_STREAMS = 6

function step(text: string, run: (real: Real, model: Model) => Promise<void> | void): Step {
  return {
    check: model => model.open,
    async run(model, real) {
      await run(real, model)
      await turns(1)
      real.checkNow()
    },
    toString: () => text,
  }
}

/** A step at one stream, left out when there is none that it fits. */
function atStream(
  text: string,
  pick: number,
  side: Side,
  run: (real: Real, stream: StreamModel) => Promise<void> | void,
) {
  return step(`${text}(${side} of ${pick})`, real => {
    const fit = real.streams.filter(stream => !stream.broken && stream[side])
    const stream = fit[pick % Math.max(1, fit.length)]
    return stream && run(real, stream)
  })
}

const pick = fc.nat(MOST_STREAMS)
const side = fc.constantFrom<Side>('client', 'agent')
const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(2_000) },
  { weight: 2, arbitrary: fc.constantFrom(0, 1, 65_511, 65_512, 70_000) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(LIMITS.windowBytes - 1, LIMITS.windowBytes, LIMITS.windowBytes + 1, 300_000),
  },
)

const open = fc.constant(
  step('open', async real => {
    if (real.streams.length < MOST_STREAMS) await real.open()
  }),
)
const write = fc.tuple(pick, side, size).map(([n, who, bytes]) =>
  atStream(`write ${bytes}`, n, who, (real, stream) => {
    if (!stream.flows[who].endedByWriter) real.write(stream, who, bytes)
  }),
)
const read = fc
  .tuple(pick, side, fc.integer({ min: 1, max: 6 }))
  .map(([n, who, count]) => atStream(`read ${count}`, n, who, (real, stream) => real.read(stream, who, count)))
const signal = pick.map(n =>
  atStream('signal', n, 'client', (_real, stream) => {
    const flow = stream.flows.client
    // as many as may be unread, and no more: beyond them the session ends
    if (flow.endedByWriter || flow.signals - flow.signalsRead >= LIMITS.unreadMessages) return
    flow.signals++
    stream.client?.post('signal', { name: 'SIGHUP' })
  }),
)
/** Once what was written before it has gone: the half-close of a writer that waits for its writes. */
const halfClose = pick.map(n =>
  atStream('half-close', n, 'client', (_real, stream) => {
    const flow = stream.flows.client
    if (flow.endedByWriter || flow.taken < flow.given) return
    flow.endedByWriter = true
    stream.client?.end()
  }),
)
const reset = fc.tuple(pick, side).map(([n, who]) =>
  atStream('reset', n, who, (_real, stream) => {
    stream.broken = true
    if (who === 'client') stream.client?.reset('denied')
    else stream.leave?.(new MortarError('denied'))
  }),
)
const goAway = fc.constant(
  step('go-away', (real, model) => {
    model.open = false
    real.goAway()
  }),
)
const drop = fc.constant(
  step('drop the socket', (real, model) => {
    model.open = false
    real.drop()
  }),
)

const common = [open, write, write, write, read, read, read, signal, halfClose]
const steps = fc.commands<Model, Real>(
  // no weights here: what is listed more often is drawn more often
  [...common, ...common, ...common, reset, reset, goAway, drop] as never,
  { maxCommands: 40, size: 'max' },
)

export interface ModelCounts {
  runs: number
  streams: number
  bytesRead: number
  /** streams in which a writer had to wait for its window */
  filledWindows: number
}

/** Runs `runs` random sessions. Fails with the shortest sequence of commands that breaks the model. */
export async function runModel(runs: number, seed: number): Promise<ModelCounts> {
  const counts: ModelCounts = { runs: 0, streams: 0, bytesRead: 0, filledWindows: 0 }
  await fc.assert(
    fc.asyncProperty(steps, async commands => {
      const real = await Real.start()
      await real.open()
      await fc.asyncModelRun(() => ({ model: { open: true }, real }), commands as Iterable<Step>)
      await real.finish()
      counts.runs++
      for (const { flows } of real.streams) {
        counts.streams++
        counts.bytesRead += flows.client.read + flows.agent.read
        if (flows.client.given > LIMITS.windowBytes || flows.agent.given > LIMITS.windowBytes) counts.filledWindows++
      }
    }),
    { numRuns: runs, seed },
  )
  return counts
}
