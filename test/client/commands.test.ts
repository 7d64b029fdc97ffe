/** Programs and terminals from the client's side, over a real channel in memory. */
import { describe, expect, test } from 'vitest'
import { wallClock, within } from '../../client/host/clock.ts'
import { collectProgram, runProgram, type SendSignal } from '../../client/programs/exec.ts'
import { openTerminal } from '../../client/programs/terminal.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import type { MortarError } from '../../protocol/core/errors.ts'
import { sessionPair } from '../support/session-pair.ts'

async function* pieces(...texts: string[]) {
  for (const text of texts) yield encodeText(text)
}

/** input of somebody who types nothing */
async function* endless(): AsyncGenerator<Uint8Array> {
  await new Promise(() => {})
}

describe('programs', () => {
  test('input, both outputs and the exit arrive', async () => {
    const { session } = await sessionPair({
      handlers: {
        async exec(call) {
          call.accept({})
          let input = ''
          for await (const item of call.received()) {
            if (item.type === 'message') break
            input += decodeText(item.bytes)
          }
          await call.write(encodeText(input.toUpperCase()))
          await call.write(encodeText('warning'), 1)
          call.post('exit', { code: 7, signal: null })
        },
      },
    })
    const seen = { stdout: '', stderr: '' }
    const exit = await runProgram(
      session,
      { argv: ['tr'] },
      {
        stdin: pieces('one ', 'two'),
        onOutput(bytes, from) {
          seen[from] += decodeText(bytes)
        },
      },
    )
    expect(exit).toEqual({ code: 7, signal: null })
    expect(seen).toEqual({ stdout: 'ONE TWO', stderr: 'warning' })
  })

  test('input that cannot be read to its end ends the program and is told', async () => {
    let ended = ''
    const { session } = await sessionPair({
      handlers: {
        async exec(call) {
          call.accept({})
          try {
            for await (const item of call.received()) if (item.type === 'message') break
          } catch (thrown) {
            ended = (thrown as MortarError).code
          }
        },
      },
    })
    async function* broken() {
      yield encodeText('half of it')
      throw new Error('EISDIR: read')
    }
    const running = runProgram(session, { argv: ['cat'] }, { stdin: broken(), onOutput: () => {} })
    await expect(running).rejects.toThrow('EISDIR')
    await expect.poll(() => ended).toBe('truncated')
  })

  test('a signal reaches a program that still reads', async () => {
    const { session } = await sessionPair({
      handlers: {
        async exec(call) {
          call.accept({})
          await call.write(encodeText('running'))
          for await (const item of call.received()) {
            if (item.type === 'message' && item.name === 'signal')
              return call.post('exit', { code: null, signal: item.body.name })
          }
        },
      },
    })
    let signal: SendSignal = () => false
    const exit = await runProgram(
      session,
      { argv: ['cat'] },
      {
        stdin: endless(),
        onOutput: () => void signal('SIGUSR1'),
        onRunning: send => {
          signal = send
        },
      },
    )
    expect(exit).toEqual({ code: null, signal: 'SIGUSR1' })
  })

  test('a signal reaches the program behind the end of its input', async () => {
    const { session } = await sessionPair({
      handlers: {
        async exec(call) {
          call.accept({})
          for await (const item of call.received()) {
            if (item.type !== 'message') continue
            if (item.name === 'eof') await call.write(encodeText('input ended'))
            else return call.post('exit', { code: null, signal: item.body.name })
          }
        },
      },
    })
    let signal: SendSignal = () => false
    const exit = await runProgram(
      session,
      { argv: ['sleep'] },
      {
        onOutput: () => void signal('SIGINT'),
        onRunning: send => {
          signal = send
        },
      },
    )
    expect(exit).toEqual({ code: null, signal: 'SIGINT' })
    expect(signal('SIGINT')).toBe(false)
  })

  test('a stream that ends without an exit is truncated, never a success', async () => {
    const { session } = await sessionPair({ handlers: { exec: async call => call.accept({}) } })
    await expect(collectProgram(session, { argv: ['x'] })).rejects.toMatchObject({ code: 'truncated' })
  })

  test('too much output is refused and cancels the program', async () => {
    let cancelled = false
    const { session } = await sessionPair({
      handlers: {
        async exec(call) {
          call.accept({})
          try {
            for (;;) await call.write(new Uint8Array(10_000))
          } finally {
            cancelled = true
          }
        },
      },
    })
    const collecting = collectProgram(session, { argv: ['yes'] }, 50_000)
    await expect(collecting).rejects.toMatchObject({ code: 'limit-exceeded' })
    await expect.poll(() => cancelled).toBe(true)
  })
})

test('a terminal takes keys and sizes, shows output, and ends with its shell', async () => {
  const log: unknown[] = []
  const { session } = await sessionPair({
    handlers: {
      async terminal(call) {
        log.push(call.params)
        call.accept({})
        for await (const item of call.received()) {
          log.push(item.type === 'data' ? decodeText(item.bytes) : item.body)
          await call.write(encodeText('echo'))
          if (item.type === 'data') break
        }
        call.post('exit', { code: 0, signal: null })
      },
    },
  })
  let screen = ''
  const terminal = await openTerminal(session, { cols: 80, rows: 24 }, bytes => {
    screen += decodeText(bytes)
  })
  terminal.resize(132, 50)
  await terminal.write(encodeText('x'))
  expect(await terminal.ended).toEqual({ code: 0, signal: null })
  expect(log).toEqual([{ cols: 80, rows: 24 }, { cols: 132, rows: 50 }, 'x'])
  expect(screen).toBe('echoecho')
  terminal.resize(1, 1)
  await terminal.write(encodeText('too late'))
})

test('a new size in the moment that the session is lost throws at nobody: the end tells it', async () => {
  const { session } = await sessionPair({
    handlers: {
      async terminal(call) {
        call.accept({})
        await call.write(encodeText('prompt'))
        for await (const _item of call.received());
      },
    },
  })
  const shown = Promise.withResolvers<void>()
  const showing = Promise.withResolvers<void>()
  const terminal = await openTerminal(session, { cols: 80, rows: 24 }, () => {
    showing.resolve()
    return shown.promise
  })
  await showing.promise
  session.close()
  await session.closed
  // the screen still takes the last output, so that the terminal has not heard of the loss
  terminal.resize(132, 50)
  shown.resolve()
  await expect(terminal.ended).rejects.toMatchObject({ code: 'going-away' })
})

test('work that does not end in time is a timeout that names it', async () => {
  const late = within(wallClock, 50, 'locking drives in first', new Promise(() => {}))
  // a clock's timers do not keep a program alive
  const alive = setTimeout(() => {}, 1000)
  await expect(late).rejects.toMatchObject({
    code: 'timeout',
    detail: 'locking drives in first: not done after 0.05 s',
  })
  clearTimeout(alive)
  expect(await within(wallClock, 50, 'x', Promise.resolve(7))).toBe(7)
})
