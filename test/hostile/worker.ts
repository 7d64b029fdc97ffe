/** A process that runs pieces of a hostile run, one after the other, as its parent sends them. */
import { type Piece, runPiece } from './jobs.ts'

process.on('message', (piece: Piece) => {
  runPiece(piece).then(
    result => process.send?.({ result }),
    (thrown: Error) => process.send?.({ error: thrown.stack }),
  )
})
process.on('disconnect', () => process.exit())
