/**
 * A program of the bench: one end of a channel through the relay, as agent and `mortar exec` do it. The agent's end streams
 * bytes as an exec does its output, in a kept call; the client's counts them and prints how long they took.
 */
import { openJoined } from '../../agent/control/websocket.ts'
import { openSocket } from '../../client/node/websocket.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { JOIN_PATH } from '../../protocol/control/sockets.ts'
import { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { openSession, serveSession } from '../../protocol/session.ts'
import { agentSign, facts, noHandlers, wallClock } from '../support/session-pair.ts'

const CHUNK_BYTES = 65_536
const [role, url = '', token = '', suiteName, size = '0'] = process.argv.slice(2)
const suite = suiteName === 'noble' ? nobleSuite : nativeSuite
// both ends are this bench: fixed keys save it an exchange
const ownerKeys = suite.importKeyPair(new Uint8Array(32).fill(0x31))
const agentKeys = suite.importKeyPair(new Uint8Array(32).fill(0x32))
const common = { suite, clock: wallClock, facts }

if (role === 'agent') {
  await serveSession({
    ...common,
    transport: await openJoined(url, token),
    agentKeys,
    agentSign,
    ownerDh: ownerKeys.publicKey,
    launchSecret: new Uint8Array(32),
    admit: onlyOwner(),
    guest: undefined,
    kept: new KeptCalls(wallClock),
    handlers: {
      ...noHandlers,
      async exec(call) {
        call.accept({})
        const chunk = new Uint8Array(CHUNK_BYTES).map((_, i) => i * 7)
        for (let left = Number(call.params.argv[0]); left > 0; left -= CHUNK_BYTES) {
          // the call keeps what it is given, and these bytes are the same each time
          await call.write(left < CHUNK_BYTES ? chunk.subarray(0, left) : chunk)
        }
        call.post('exit', { code: 0, signal: null })
      },
    },
  })
} else {
  const session = await openSession({
    ...common,
    transport: await openSocket(new URL(JOIN_PATH, url).href, token),
    ownerKeys,
    agent: { dh: agentKeys.publicKey, sign: agentSign },
    contact: { kind: 'first', launchSecret: new Uint8Array(32) },
  })
  // a small run first: code is compiled, and every byte is looked at once
  await run(4 * 2 ** 20, true)
  const started = performance.now()
  await run(Number(size), false)
  console.log(JSON.stringify({ seconds: (performance.now() - started) / 1000 }))
  session.close()
  await session.closed

  async function run(bytes: number, look: boolean): Promise<void> {
    const kept = new KeptClientCall({
      command: exec,
      params: { argv: [String(bytes)] },
      id: suite.randomBytes(16),
      clock: wallClock,
      onLost() {},
      onOver() {},
    })
    await session.attach(kept)
    let got = 0
    for await (const item of (await kept.call).received()) {
      if (item.type !== 'data') continue
      if (look && !item.bytes.every((byte, i) => byte === (((got + i) % CHUNK_BYTES) * 7) % 256)) {
        throw new Error('other bytes came than were sent')
      }
      got += item.bytes.length
    }
    if (got !== bytes) throw new Error(`${got} of ${bytes} bytes came`)
  }
}
process.exit(0)
