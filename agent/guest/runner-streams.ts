/** A program at a runner as streams and as a terminal, for those who serve one connection and keep nothing of it. */
import { Readable, Writable } from 'node:stream'
import { exitBody, STDERR } from '../../protocol/commands/exec.ts'
import { decodeCbor } from '../../protocol/core/codec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { z } from '../../protocol/core/schema.ts'
import type { HeldPiece } from '../../protocol/kept/held-log.ts'
import type { Exit, Running, RunningTerminal } from './runner.ts'
import type { RunnerProgram } from './runner-program.ts'

const exitMessage = z.tuple([z.literal('exit'), exitBody])

/** Calls back for each piece of output, in order; resolves with the exit. Forgets the program at the end. */
async function follow(program: RunnerProgram, take: (lane: number, bytes: Uint8Array) => Promise<void>): Promise<Exit> {
  let position = 0
  let exit: Exit = { code: null, signal: null }
  const reader = await program.open(0)
  for (let piece = await reader.next(); piece; piece = await reader.next()) {
    if (piece.type === 'data') await take(piece.lane, piece.bytes)
    else exit = decodeCbor(exitMessage, piece.body, LIMITS.messageBytes, 'runner-lost')[1]
    position += countOf(piece)
    program.release(position)
  }
  return exit
}

/** Positions that a piece takes. */
function countOf(piece: HeldPiece): number {
  return piece.type === 'data' ? piece.bytes.length : 1
}

export function asStreams(program: RunnerProgram): Running {
  const outputs = [newOutput(), newOutput()] as const
  const exited = follow(program, (lane, bytes) => outputs[lane === STDERR ? 1 : 0].take(bytes))
  void exited
    .then(() => outputs.map(output => output.end()))
    .catch((error: Error) => outputs.map(output => output.end(error)))
    .finally(() => program.forget())
  const input = (send: () => Promise<void>, done: (error?: Error) => void) => void send().then(() => done(), done)
  const stdin = new Writable({
    write: (chunk: Uint8Array, _, done) => input(() => program.input({ type: 'data', bytes: chunk }), done),
    final: done => input(() => program.input({ type: 'eof' }), done),
  })
  return {
    stdin,
    stdout: outputs[0].readable,
    stderr: outputs[1].readable,
    exited,
    signal: name => program.input({ type: 'signal', name }),
    kill: () => program.kill(),
  }
}

function newOutput() {
  let wake = () => {}
  const readable = new Readable({ read: () => wake() })
  // who lost interest in it gets no error
  readable.on('error', () => {})
  readable.on('close', () => wake())
  return {
    readable,
    take(bytes: Uint8Array): Promise<void> {
      if (readable.destroyed || readable.push(bytes)) return Promise.resolve()
      return new Promise(resolve => {
        wake = resolve
      })
    },
    end(error?: Error) {
      if (error) readable.destroy(error)
      else readable.push(null)
    },
  }
}

export function asTerminal(program: RunnerProgram): RunningTerminal {
  const taking = Promise.withResolvers<(bytes: Uint8Array) => Promise<void>>()
  const exited = follow(program, async (_, bytes) => (await taking.promise)(bytes)).finally(() => program.forget())
  exited.catch(() => undefined)
  return {
    async output(take) {
      taking.resolve(take)
      await exited
    },
    write: bytes => program.input({ type: 'data', bytes }),
    resize: size => void program.input({ type: 'resize', ...size }).catch(() => undefined),
    exited,
    kill: () => program.kill(),
  }
}
