/** The process of a load: told what to do by its parent, and ended by it. */
import { type Load, run, type Tally } from './load.ts'

const tally: Tally = { sockets: new Set(), answered: 0, refused: 0, stopped: false }
process.on('message', async (message: Load | 'counts') => {
  if (message !== 'counts') await run(message, tally)
  process.send?.({ open: tally.sockets.size, answered: tally.answered, refused: tally.refused })
})
process.once('disconnect', () => process.exit(0))
