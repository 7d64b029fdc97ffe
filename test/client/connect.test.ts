/** Connecting: the agent is believed for the launch secret or the owner's certificate, and for nothing the broker says. SPEC §2.4, §5.2 */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { Identity } from '../../client/identity/identity.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { openCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { transportPair } from '../support/transport-pair.ts'
import {
  agentKeys,
  agentSign,
  endScene,
  identity,
  launchKey,
  launchSeedOf,
  nextBoot,
  type Scene,
  scene,
  session,
  statementFor,
} from './scene.ts'
import { refusal, sampleAgent, sampleVm } from './small-broker.ts'

afterEach(endScene)

/** Lets the handshake through and sends noise for the first record. */
function garbageForReady(agent: Transport): Transport {
  let sent = 0
  return {
    ...agent,
    send: packet => agent.send(++sent === 1 ? packet : new Uint8Array(64).fill(sent)),
    // what ends the handshake here is not to be heard over there
    close() {
      agent.send(new Uint8Array(64))
    },
  }
}

const certificateFor = (more: object = {}, by = identity) =>
  encodeBase64url(
    by.withSigningSeed(seed =>
      signCertificate(
        {
          version: 1,
          vm: '11111111-1111-4111-8111-111111111111',
          launch: '22222222-2222-4222-8222-222222222222',
          generation: 1,
          agentDh: agentKeys.publicKey,
          agentSign,
          provenBy: launchKey,
          nextBoot,
          serial: 1,
          confirmed: false,
          ...more,
        },
        seed,
      ),
    ),
  )

describe('first contact', () => {
  test('an agent that knows the launch secret is certified with the keys it proved', async () => {
    const { connect, certificates } = await scene()
    const { contact, session } = await connect()
    expect(contact).toBe('first')
    expect(session.commands).toContain('exec')
    expect(openCertificate(decodeBase64url(certificates[0] as string), identity.signKey)).toMatchObject({
      generation: 1,
      agentDh: agentKeys.publicKey,
      agentSign,
    })
    session.close()
  })

  const { id, launch } = sampleVm(identity.signKey)
  test.each([
    ['opened', identity.launchSecret(id, launch)],
    ['failed', new Uint8Array(32)],
  ])('its launch secret is wiped once the session has %s', async (outcome, launchSecret) => {
    const { connect } = await scene({ launchSecret })
    const lent = vi.spyOn(identity, 'launchSecret')
    try {
      const connected = await connect().catch(() => undefined)
      expect(connected === undefined).toBe(outcome === 'failed')
      expect(lent.mock.results.map(({ value }) => [...value])).toEqual(Array(2).fill([...new Uint8Array(32)]))
      connected?.session.close()
    } finally {
      lent.mockRestore()
    }
  })

  const other = nobleSuite.generateKeyPair()
  const shown = (key: Uint8Array) => encodeBase64url(key)
  test.each<[string, Scene]>([
    ['that does not know the launch secret', { launchSecret: new Uint8Array(32) }],
    ['whose X25519 key the broker made up', { agent: { agentDh: shown(other.publicKey) } }],
    [
      'whose X25519 key the broker knows',
      { agent: { agentDh: shown(other.publicKey) }, keys: other, launchSecret: new Uint8Array(32) },
    ],
    ['whose Ed25519 key the broker made up', { agent: { agentSign: shown(new Uint8Array(32).fill(9)) } }],
    ['of another launch', { launch: '44444444-4444-4444-8444-444444444444' }],
    ['that was launched for another owner', { ownerDh: other.publicKey }],
    ['that says READY under other keys', { launchSecret: new Uint8Array(32), through: garbageForReady }],
  ])('an agent %s is agent-key-mismatch, and is not certified', async (_, lie) => {
    const { connect, certificates } = await scene(lie)
    await expect(connect()).rejects.toMatchObject({ code: 'agent-key-mismatch' })
    expect(certificates).toEqual([])
  })

  test('a socket that is cut in the handshake says nothing of keys', async () => {
    const cut = (end: Transport): Transport => ({ ...end, send: () => undefined, receive: () => new Promise(() => {}) })
    const { connect } = await scene({
      openSocket: async () => {
        const [clientEnd] = transportPair()
        return { ...cut(clientEnd), receive: () => Promise.reject(new MortarError('connection-lost')) }
      },
    })
    await expect(connect()).rejects.toMatchObject({ code: 'connection-lost' })
  })
})

describe('known agents', () => {
  test('need the certificate and not the launch secret', async () => {
    const { connect, certificates } = await scene({ vm: { certificate: certificateFor(), state: 'ready' } })
    const { contact, session } = await connect()
    expect(contact).toBe('known')
    expect(certificates).toEqual([])
    session.close()
  })

  const other = Identity.create(nobleSuite)
  test.each([
    ['signed by somebody else', { certificate: certificateFor({}, other) }, 'certificate-invalid'],
    ['of another VM', { certificate: certificateFor({ vm: session }) }, 'certificate-invalid'],
    ['that is none', { certificate: 'AAAA' }, 'certificate-invalid'],
    ['that is no base64url', { certificate: '***' }, 'certificate-invalid'],
    ['of another X25519 key', { certificate: certificateFor({ agentDh: new Uint8Array(32) }) }, 'boot-unproven'],
    ['of another Ed25519 key', { certificate: certificateFor({ agentSign: new Uint8Array(32) }) }, 'boot-unproven'],
    [
      'of another key than the broker names, which no boot stated',
      { certificate: certificateFor({ agentSign: new Uint8Array(32) }), boots: [] },
      'agent-key-mismatch',
    ],
  ])('a certificate %s opens nothing', async (_, more, code) => {
    let opened = false
    const openSocket = async () => {
      opened = true
      return transportPair()[0]
    }
    const { connect } = await scene({ vm: more, openSocket })
    await expect(connect()).rejects.toMatchObject({ code })
    expect(opened).toBe(false)
  })
})

describe('a certified agent', () => {
  const certified = { vm: { certificate: certificateFor(), state: 'ready' as const } }

  test('of another launch makes first contact again', async () => {
    const launch = '44444444-4444-4444-8444-444444444444'
    const boots = [statementFor(sampleAgent(agentKeys.publicKey, agentSign), { launch }, launchSeedOf(launch))]
    const { connect } = await scene({ vm: { ...certified.vm, launch, boots } })
    const { contact, session } = await connect()
    expect(contact).toBe('first')
    session.close()
  })

  test.each<[string, Scene, string]>([
    ['that has another X25519 key', { keys: nobleSuite.generateKeyPair() }, 'agent-key-mismatch'],
    ['that names another Ed25519 key', { sign: new Uint8Array(32).fill(9) }, 'agent-key-mismatch'],
    ['that has another owner', { ownerDh: new Uint8Array(32).fill(9) }, 'owner-mismatch'],
  ])('%s is refused, and the owner is told', async (_, lie, code) => {
    const { connect } = await scene({ ...certified, ...lie })
    await expect(connect()).rejects.toMatchObject({ code })
  })

  test('whom the broker gives another owner is still known as one’s own', async () => {
    const owner = encodeBase64url(new Uint8Array(32))
    const { connect } = await scene({ vm: { ...certified.vm, owner } })
    await expect(connect()).rejects.toMatchObject({ code: 'owner-mismatch' })
  })

  test('another VM in its place is vm-mismatch', async () => {
    const id = '11111111-1111-4111-8111-111111111111'
    const other = sampleVm(identity.signKey, { id: '44444444-4444-4444-8444-444444444444' })
    const { api } = await scene({ script: { [`GET /v1/vms/${id}`]: () => ({ json: { vm: other } }) } })
    await expect(api.vm(id)).rejects.toMatchObject({ code: 'vm-mismatch' })
  })

  test('a reason that the relay gives for its end is not believed', async () => {
    for (const [reason, told] of [
      ['drive-header', 'connection-lost'],
      ['grant-revoked', 'connection-lost'],
      ['going-away', undefined],
    ] as const) {
      let end = (_error: MortarError) => {}
      const through = (agent: Transport): Transport => agent
      const { connect, host } = await scene({ ...certified, through })
      const open = host.openSocket
      Object.assign(host, {
        openSocket: async (url: string, token: string) => {
          const transport = await open(url, token)
          const broken = new Promise<never>((_, reject) => {
            end = reject
          })
          broken.catch(() => undefined)
          return { ...transport, receive: () => Promise.race([transport.receive(), broken]) }
        },
      })
      const { session } = await connect()
      end(new MortarError(reason))
      expect((await session.closed)?.code).toBe(told)
      endScene()
    }
  })
})

describe('refusals', () => {
  test('a VM that is not enrolled, or of another owner', async () => {
    await expect((await scene({ vm: { state: 'booting', agent: null } })).connect()).rejects.toMatchObject({
      code: 'vm-state',
    })
    endScene()
    const owner = encodeBase64url(new Uint8Array(32))
    await expect((await scene({ vm: { owner } })).connect()).rejects.toMatchObject({ code: 'denied' })
  })

  test("the broker's reason for closing the socket is told, not that the handshake failed", async () => {
    const closed: Transport = {
      send: () => {},
      receive: () => Promise.reject(new MortarError('vm-unreachable')),
      drained: () => Promise.resolve(),
      close: () => {},
    }
    const { connect } = await scene({ openSocket: async () => closed })
    await expect(connect()).rejects.toMatchObject({ code: 'vm-unreachable', detail: 'first' })
  })

  test('a certificate that the broker refuses ends the session', async () => {
    const id = '11111111-1111-4111-8111-111111111111'
    let closed = false
    const { connect } = await scene({
      script: { [`PUT /v1/vms/${id}/certificate`]: () => refusal('denied') },
      through: end => ({
        ...end,
        close() {
          closed = true
          end.close()
        },
      }),
    })
    await expect(connect()).rejects.toMatchObject({ code: 'denied' })
    await expect.poll(() => closed).toBe(true)
  })
})
