/** Programs, terminals and drives from the client's side, over a real channel in memory. */
import { describe, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker-api.ts'
import { openDriveNote, sealDriveNote } from '../../client/drive-note.ts'
import { formatDrive, listDrives, lockDrive, unlockDrive } from '../../client/drives.ts'
import { collectProgram, runProgram, type SendSignal } from '../../client/exec.ts'
import { Identity } from '../../client/identity.ts'
import { openTerminal } from '../../client/terminal.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Drive } from '../../protocol/control/api.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { sessionPair } from '../support/session-pair.ts'
import { smallBroker } from './small-broker.ts'

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

describe('drives', () => {
  const identity = Identity.create(nobleSuite)
  const id = '44444444-4444-4444-8444-444444444444'
  const salt = new Uint8Array(32).fill(6)
  const headerDigest = new Uint8Array(32).fill(7)
  const serial = 'ab'.repeat(10)
  const driveWith = (digest: Uint8Array | null): Drive => ({
    id,
    name: 'data',
    sizeBytes: 67_108_864,
    owner: '',
    note: sealDriveNote(identity, id, { salt, headerDigest: digest }),
    attachedTo: '11111111-1111-4111-8111-111111111111',
    serial,
    createdAt: '',
  })

  test('formatting delivers the key and keeps the digest of the header in the note', async () => {
    let key: Uint8Array | undefined
    const { session } = await sessionPair({
      handlers: {
        async 'drive-format'(call) {
          call.accept({})
          key = await call.secret()
          call.post('done', { headerDigest })
        },
      },
    })
    let note = ''
    const broker = await smallBroker({
      [`PUT /v1/drives/${id}/note`]: body => {
        note = (body as { note: string }).note
        return { json: {} }
      },
    })
    try {
      const api = new BrokerApi({ url: broker.url, identity, pins: pinsInMemory() })
      const drive = await formatDrive(api, identity, session, driveWith(null), { erase: false })
      expect(drive.note).toBe(note)
      expect(openDriveNote(identity, id, note)).toEqual({ salt, headerDigest })
      expect(key).toEqual(identity.driveKey(id, salt).slice())
    } finally {
      broker.close()
    }
  })

  test('unlocking sends key and digest; a blank drive or a changed note sends neither', async () => {
    let asked = 0
    const done = { mountPoint: '/drives/data', sizeBytes: 60, freeBytes: 50 }
    const { session } = await sessionPair({
      handlers: {
        async 'drive-unlock'(call) {
          asked++
          call.accept({})
          expect(await call.secret()).toEqual(identity.driveKey(id, salt).slice())
          expect(call.params).toMatchObject({ serial, headerDigest, mountName: 'data', readOnly: true })
          call.post('done', done)
        },
      },
    })
    expect(await unlockDrive(identity, session, driveWith(headerDigest), { readOnly: true })).toEqual(done)
    const unlock = (drive: Drive) => unlockDrive(identity, session, drive, { readOnly: true })
    await expect(unlock(driveWith(null))).rejects.toMatchObject({ code: 'drive-blank' })
    const theirs = sealDriveNote(Identity.create(nobleSuite), id, { salt, headerDigest })
    await expect(unlock({ ...driveWith(null), note: theirs })).rejects.toMatchObject({ code: 'drive-note' })
    expect(asked).toBe(1)
  })

  test("the agent's refusal arrives, before and after it accepted", async () => {
    const drives = [{ serial, state: 'mounted' as const, sizeBytes: 1, mountPoint: '/drives/data' }]
    const { session } = await sessionPair({
      handlers: {
        async 'drive-lock'(call) {
          call.accept({})
          throw new MortarError('drive-busy')
        },
        async 'drive-unlock'() {
          throw new MortarError('drive-detached')
        },
        'drive-list': async call => call.accept({ drives }),
      },
    })
    await expect(lockDrive(session, driveWith(headerDigest))).rejects.toMatchObject({ code: 'drive-busy' })
    const unlocking = unlockDrive(identity, session, driveWith(headerDigest), { readOnly: false })
    await expect(unlocking).rejects.toMatchObject({ code: 'drive-detached' })
    expect(await listDrives(session)).toEqual(drives)
  })
})
