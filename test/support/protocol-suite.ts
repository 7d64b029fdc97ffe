/**
 * The protocol's own suite as plain functions, so that it runs wherever the protocol does: in Node with both back ends
 * (test/protocol/suite.test.ts) and in Chromium (test/browser/protocol.test.ts). No host types, no test library.
 */
import { driveUnlock } from '../../protocol/commands/drives.ts'
import { exec, STDERR } from '../../protocol/commands/exec.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { type ChannelVector, runChannelVector } from './channel-vector.ts'
import { type Backend, nameOf, runVector } from './noise-vector.ts'
import { facts, sessionPair } from './session-pair.ts'

export interface SuiteInput {
  readonly noise: readonly unknown[]
  readonly channel: readonly ChannelVector[]
}
type Case = readonly [name: string, run: (backend: Backend) => Promise<void>]

function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what)
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'no error',
    (error: { code?: string }) => error.code ?? String(error),
  )
}

const CASES: readonly Case[] = [
  [
    'a program: input, both outputs and its exit',
    async ({ suite }) => {
      const { session } = await sessionPair({
        suites: { client: suite, agent: suite },
        handlers: {
          async exec(call) {
            call.accept({})
            let input = ''
            for await (const item of call.received()) {
              if (item.type === 'message') break
              input += decodeText(item.bytes)
            }
            await call.write(encodeText(input.toUpperCase()))
            await call.write(encodeText('warning'), STDERR)
            call.post('exit', { code: 7, signal: null })
          },
        },
      })
      const call = await session.open(exec, { argv: ['tr'] })
      await call.write(encodeText('input'))
      call.post('eof', {})
      const seen: string[] = []
      for await (const item of call.received()) {
        seen.push(item.type === 'data' ? `${item.lane}:${decodeText(item.bytes)}` : JSON.stringify(item.body))
      }
      require(seen.join() === '0:INPUT,1:warning,{"code":7,"signal":null}', seen.join())
      session.close()
    },
  ],
  [
    '8 MiB through windows arrive whole',
    async ({ suite }) => {
      const bytes = 8 * 2 ** 20
      const { session } = await sessionPair({
        suites: { client: suite, agent: suite },
        handlers: {
          async exec(call) {
            call.accept({})
            for (let i = 0; i < bytes / 65_536; i++) await call.write(new Uint8Array(65_536).fill(i))
            call.post('exit', { code: 0, signal: null })
          },
        },
      })
      const call = await session.open(exec, { argv: ['yes'] })
      let [length, sum] = [0, 0]
      for await (const item of call.received()) {
        if (item.type !== 'data') continue
        length += item.bytes.length
        for (const byte of item.bytes) sum = (sum + byte) >>> 0
      }
      require(length === bytes && sum === 65_536 * ((127 * 128) / 2), `${length} bytes, sum ${sum}`)
      session.close()
    },
  ],
  [
    'a secret arrives and is wiped at its sender',
    async ({ suite }) => {
      let seen = ''
      const { session } = await sessionPair({
        suites: { client: suite, agent: suite },
        handlers: {
          async 'drive-unlock'(call) {
            call.accept({})
            seen = String(await call.secret())
            call.post('done', { mountPoint: '/drives/data', sizeBytes: 1, freeBytes: 1, readOnly: false })
          },
        },
      })
      const call = await session.open(driveUnlock, {
        drive: facts.vm,
        serial: '0123456789abcdef0123',
        headerDigest: new Uint8Array(32),
        mountName: 'data',
        readOnly: false,
      })
      const secret = new Uint8Array(64).fill(5)
      await call.sendSecret(secret)
      for await (const item of call.received()) require(item.type === 'message', 'data')
      require(seen === String(new Uint8Array(64).fill(5)), 'another secret')
      require(secret.every(byte => byte === 0), 'not wiped')
    },
  ],
  [
    'an agent without the launch secret is refused',
    async ({ suite }) => {
      const code = await codeOf(
        sessionPair({ suites: { client: suite, agent: suite }, agentSecret: new Uint8Array(32).fill(1) }),
      )
      require(['agent-key-mismatch', 'handshake', 'connection-lost'].includes(code), code)
    },
  ],
  [
    'a record with one bit changed ends the session',
    async ({ suite }) => {
      let packets = 0
      const bend = (end: Transport): Transport => ({
        ...end,
        send(packet) {
          // the agent's message of the handshake and READY pass
          if (++packets > 2) packet[0] = (packet[0] ?? 0) ^ 1
          end.send(packet)
        },
      })
      const { session } = await sessionPair({
        suites: { client: suite, agent: suite },
        through: (client, agent) => [client, bend(agent)],
        handlers: { exec: async call => call.accept({}) },
      })
      const code = await codeOf(session.open(exec, { argv: ['true'] }))
      require(code === 'record-invalid', code)
    },
  ],
]

/** Every case by name; each throws when it fails. */
export function protocolSuite({ noise, channel }: SuiteInput): Case[] {
  return [
    ...noise.map((vector): Case => [`vector ${nameOf(vector)}`, backend => runVector(vector, backend)]),
    ...channel.map(
      (vector): Case => [`second implementation, ${vector.name}`, ({ suite }) => runChannelVector(vector, suite)],
    ),
    ...CASES,
  ]
}
