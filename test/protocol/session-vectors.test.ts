/**
 * Whole sessions against a second implementation, packet by packet: the client alone, then the agent alone, and the other end
 * as the specification has it (test/vectors/make-sessions.mjs). SPEC §6.2, §7.1, §7.2, §7.4, §8, §8.1, §8.2
 */
import { describe, expect, test } from 'vitest'
import type { FromAgent } from '../../protocol/call.ts'
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import type { Params } from '../../protocol/commands/command.ts'
import { driveList, driveUnlock } from '../../protocol/commands/drives.ts'
import { exec, STDERR, STDOUT } from '../../protocol/commands/exec.ts'
import { info } from '../../protocol/commands/info.ts'
import { openGrant } from '../../protocol/control/grant.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { decodeHex, decodeText, encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import { copySecret } from '../../protocol/core/secret.ts'
import { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { grantRights, ownerRights } from '../../protocol/rights.ts'
import { type Caller, type Handlers, openSession, serveSession } from '../../protocol/session.ts'
import { BACKENDS } from '../support/backends.ts'
import { agentSignOf, fixedSuite } from '../support/channel-vector.ts'
import { noHandlers, wallClock } from '../support/session-pair.ts'
import { replay, type SessionVector } from '../support/session-vector.ts'
import { isPrinted, readVectors } from '../support/vector-file.ts'

type Begun = SessionVector & {
  readonly params: Omit<Params<typeof driveUnlock>, 'headerDigest'> & { readonly headerDigest: string }
  readonly secret: string
  readonly done: {
    readonly mountPoint: string
    readonly sizeBytes: number
    readonly freeBytes: number
    readonly readOnly: boolean
  }
  /** id of the kept call */
  readonly keep: string
}
const { begun, takenUp, granted } = readVectors<{
  begun: Begun
  takenUp: SessionVector
  /** with the owner's Ed25519 key */
  granted: SessionVector & { readonly owner: string }
}>('sessions')
const unlockParams = { ...begun.params, headerDigest: decodeHex(begun.params.headerDigest) }

test('the second implementation prints the file of its vectors', () =>
  expect(isPrinted('sessions', 'make-sessions.mjs')).toBe(true))

function commonOf(vector: SessionVector, suite: Suite, who: 'client' | 'agent') {
  const script = replay(vector, who)
  const { e } = who === 'client' ? vector.initiator : vector.responder
  const ephemerals = [e, ...(vector.oneTime ? [vector.oneTime[who]] : [])]
  const facts = { ...vector.facts, broker: decodeHex(vector.facts.broker) }
  return {
    script,
    options: { transport: script.transport, suite: fixedSuite(suite, ephemerals, vector.kem), clock: wallClock, facts },
  }
}

/** lane and text of what comes next */
async function outputOf(items: AsyncGenerator<FromAgent<typeof exec>>) {
  const { value } = await items.next()
  return value?.type === 'data' ? [value.lane, decodeText(value.bytes)] : value
}

/** until what was said in this turn has left */
const soon = () => new Promise(resolve => setTimeout(resolve, 5))
const bent = (hex: string) => `${hex.slice(0, -1)}${(Number.parseInt(hex.at(-1) ?? '', 16) ^ 1).toString(16)}`
const pairOf = (suite: Suite, secret: string): KeyPair => suite.importKeyPair(decodeHex(secret))

async function clientOf(vector: SessionVector, suite: Suite) {
  const { script, options } = commonOf(vector, suite, 'client')
  const { contact, initiator, responder, launchSecret, grant } = vector
  const session = await openSession({
    ...options,
    ownerKeys: pairOf(suite, initiator.s),
    agent: { dh: pairOf(suite, responder.s).publicKey, sign: agentSignOf(vector, suite) },
    contact: contact === 'first' ? { kind: 'first', launchSecret: decodeHex(launchSecret) } : { kind: 'known' },
    ...(grant !== undefined && { grant: decodeHex(grant) }),
  })
  expect(encodeHex(session.bindingHash)).toBe(vector.transcriptHash)
  return { script, session }
}

/** An agent with the handlers that the vectors were written for. */
function agentOf(suite: Suite) {
  const kept = new KeptCalls(wallClock)
  const secrets: string[] = []
  const handlers: Handlers<undefined> = {
    ...noHandlers,
    async 'drive-unlock'(call) {
      expect(call.params).toEqual(unlockParams)
      call.accept({})
      secrets.push(encodeHex(await call.secret()))
      call.post('done', begun.done)
    },
    async exec(call) {
      call.accept({})
      let lane = STDOUT
      for await (const item of call.received()) {
        if (item.type === 'message') break
        await call.write(encodeText(decodeText(item.bytes).toUpperCase()), lane)
        lane = STDERR
      }
      call.post('exit', { code: 0, signal: null })
    },
    'drive-list': async call => call.accept({ drives: [] }),
  }
  const serve = async (vector: SessionVector, admit: (caller: Caller) => ReturnType<typeof ownerRights>) => {
    const { script, options } = commonOf(vector, suite, 'agent')
    await serveSession({
      ...options,
      agentKeys: pairOf(suite, vector.responder.s),
      agentSign: agentSignOf(vector, suite),
      ownerDh: decodeHex(vector.ownerDh),
      launchSecret: decodeHex(vector.launchSecret),
      handlers,
      guest: undefined,
      kept,
      admit,
    })
    return script
  }
  return { serve, secrets, kept }
}

describe.each(Object.entries(BACKENDS))('%s', (_, { suite }) => {
  test('the client writes what the second implementation would: a secret, and a kept call in two sessions', async () => {
    const first = await clientOf(begun, suite)
    const unlock = await first.session.open(driveUnlock, unlockParams)
    await unlock.sendSecret(copySecret(decodeHex(begun.secret)))
    for await (const item of unlock.received()) expect(item).toMatchObject({ name: 'done', body: begun.done })
    await soon()

    const gone = Promise.withResolvers<void>()
    const kept = new KeptClientCall({
      command: exec,
      params: { argv: ['tr'] },
      id: decodeHex(begun.keep),
      clock: wallClock,
      onLost: gone.resolve,
      onOver: () => undefined,
    })
    await first.session.attach(kept)
    const call = await kept.call
    const items = call.received()
    await call.write(encodeText('input'))
    expect(await outputOf(items)).toEqual([STDOUT, 'INPUT'])
    first.session.close()
    await gone.promise
    expect(first.script).toMatchObject({ differs: null, left: [] })

    const second = await clientOf(takenUp, suite)
    await second.session.attach(kept)
    await call.write(encodeText('more'))
    expect(await outputOf(items)).toEqual([STDERR, 'MORE'])
    call.post('eof', {})
    expect((await items.next()).value).toMatchObject({ name: 'exit', body: { code: 0, signal: null } })
    expect((await items.next()).done).toBe(true)
    await soon()
    second.session.close()
    expect(second.script).toMatchObject({ differs: null, left: [] })
  })

  test('the agent writes what the second implementation would: a secret, and a kept call in two sessions', async () => {
    const agent = agentOf(suite)
    const admit = () => ownerRights(PERMISSIONS)
    expect(await agent.serve(begun, admit)).toMatchObject({ differs: null, left: [] })
    expect(agent.secrets).toEqual([begun.secret])
    expect(agent.kept.size).toBe(1)
    expect(await agent.serve(takenUp, admit)).toMatchObject({ differs: null, left: [] })
    expect(agent.kept.size).toBe(0)
  })

  test('both ends write what the second implementation would when somebody calls with a grant', async () => {
    const { script, session } = await clientOf(granted, suite)
    await expect(session.open(info, {})).rejects.toMatchObject({ code: 'denied' })
    const call = await session.open(driveList, {})
    expect(call.ready).toEqual({ drives: [] })
    for await (const item of call.received()) expect(item).toBe(null)
    await soon()
    session.close()
    expect(script).toMatchObject({ differs: null, left: [] })

    const served = await agentOf(suite).serve(granted, caller => {
      if (caller.kind !== 'grantee') throw new Error('the owner')
      return grantRights(openGrant(caller.grant, decodeHex(granted.owner)), PERMISSIONS)
    })
    expect(served).toMatchObject({ differs: null, left: [] })
  })

  test.each([
    ['READY', 'agent-key-mismatch'],
    ['done, END', 'record-invalid'],
  ])('a client is not deceived by %s with one bit changed', async (what, code) => {
    const packets = begun.packets.map(each => (each.what === what ? { ...each, packet: bent(each.packet) } : each))
    const run = async () => {
      const { session } = await clientOf({ ...begun, packets }, suite)
      const call = await session.open(driveUnlock, unlockParams)
      await call.sendSecret(copySecret(decodeHex(begun.secret)))
      for await (const item of call.received()) expect(item.type).toBe('message')
    }
    await expect(run()).rejects.toMatchObject({ code })
  })

  test.each(['OPEN drive-unlock', 'SECRET', 'END under the next key', 'GOAWAY'])(
    'an agent ends the session at %s with one bit changed',
    async what => {
      const packets = begun.packets.map(each => (each.what === what ? { ...each, packet: bent(each.packet) } : each))
      const served = agentOf(suite).serve({ ...begun, packets }, () => ownerRights(PERMISSIONS))
      await expect(served).rejects.toMatchObject({ code: 'record-invalid' })
    },
  )
})
