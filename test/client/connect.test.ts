/** Connecting: the agent is believed for the launch secret or the owner's certificate, and for nothing the broker says. */
import { afterEach, describe, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker-api.ts'
import { wallClock } from '../../client/clock.ts'
import { connectVm } from '../../client/connect.ts'
import type { Host } from '../../client/host.ts'
import { Identity } from '../../client/identity.ts'
import { launchVm } from '../../client/vm.ts'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { launchRequest, type Vm } from '../../protocol/control/api.ts'
import { openCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { checkTicketTime, openTicket } from '../../protocol/control/ticket.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { decodeCbor } from '../../protocol/core/codec.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { serveSession } from '../../protocol/session.ts'
import { noHandlers } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'
import { refusal, type Script, sampleVm, smallBroker } from './small-broker.ts'

const identity = Identity.create(nobleSuite)
const agentKeys = nobleSuite.generateKeyPair()
const agentSign = new Uint8Array(32).fill(8)
const session = '33333333-3333-4333-8333-333333333333'
const token = encodeBase64url(new Uint8Array(32).fill(5))

let close = () => {}
afterEach(() => close())

interface Scene {
  /** how the broker shows the VM */
  readonly vm?: Partial<Vm>
  readonly agent?: Partial<NonNullable<Vm['agent']>>
  /** what the agent was launched with */
  readonly launchSecret?: Uint8Array
  readonly script?: Script
  /** stands for the data socket */
  readonly openSocket?: () => Promise<Transport>
}

/** A broker whose data socket leads to a real agent's end of the channel. */
async function scene({ vm: more = {}, agent = {}, launchSecret, script = {}, openSocket }: Scene = {}) {
  const vm = sampleVm(identity.signKey, {
    agent: {
      generation: 1,
      agentDh: encodeBase64url(agentKeys.publicKey),
      agentSign: encodeBase64url(agentSign),
      addresses: [],
      version: '1',
      connected: true,
      enrolledAt: '2026-01-01T00:00:00Z',
      ...agent,
    },
    ...more,
  })
  const certificates: string[] = []
  const broker = await smallBroker({
    [`POST /v1/vms/${vm.id}/sessions`]: () => ({ json: { session, token } }),
    [`PUT /v1/vms/${vm.id}/certificate`]: body => {
      certificates.push((body as { certificate: string }).certificate)
      return { json: { vm } }
    },
    ...script,
  })
  close = broker.close
  const serve = async () => {
    const [clientEnd, agentEnd] = transportPair()
    serveSession({
      transport: agentEnd,
      suite: nobleSuite,
      clock: wallClock,
      facts: { broker: broker.key, vm: vm.id, launch: vm.launch, session },
      agentKeys,
      agentSign,
      ownerDh: identity.keys.publicKey,
      launchSecret: launchSecret ?? identity.launchSecret(vm.id, vm.launch),
      handlers: noHandlers,
      guest: undefined,
      admit: onlyOwner(),
    }).catch(() => undefined)
    return clientEnd
  }
  const host: Host = { suite: nobleSuite, clock: wallClock, openSocket: openSocket ?? serve }
  const api = new BrokerApi({ url: broker.url, identity, pins: pinsInMemory() })
  return { vm, certificates, connect: () => connectVm(api, identity, host, vm), api, host, broker }
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

  test('an agent that does not know the launch secret is not certified', async () => {
    const { connect, certificates } = await scene({ launchSecret: new Uint8Array(32) })
    await expect(connect()).rejects.toThrow(MortarError)
    expect(certificates).toEqual([])
  })

  test('a key that the broker made up is not certified', async () => {
    const { connect, certificates } = await scene({ agent: { agentDh: encodeBase64url(new Uint8Array(32).fill(9)) } })
    await expect(connect()).rejects.toThrow(MortarError)
    expect(certificates).toEqual([])
  })

  test('a boot later than the certificate must prove itself anew', async () => {
    const { connect, certificates } = await scene({ vm: { certificate: certificateFor() }, agent: { generation: 2 } })
    const { contact, session } = await connect()
    expect(contact).toBe('first')
    expect(openCertificate(decodeBase64url(certificates[0] as string), identity.signKey).generation).toBe(2)
    session.close()
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
    ['of other keys', { certificate: certificateFor({ agentDh: new Uint8Array(32) }) }, 'agent-key-mismatch'],
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

describe('refusals', () => {
  test('a VM that is not enrolled, or of another owner', async () => {
    await expect((await scene({ vm: { state: 'booting', agent: null } })).connect()).rejects.toMatchObject({
      code: 'vm-state',
    })
    close()
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
    const { connect } = await scene({ script: { [`PUT /v1/vms/${id}/certificate`]: () => refusal('denied') } })
    await expect(connect()).rejects.toMatchObject({ code: 'denied' })
  })
})

describe('launching', () => {
  const brick = {
    name: 'debian-12',
    version: '1',
    sha256: 'cd'.repeat(32),
    sizeBytes: 1,
    virtualSizeBytes: 1,
    agentVersion: '1',
    builder: 'x',
    importedAt: '2026-01-01T00:00:00Z',
  }
  const options = { name: 'first', brick: 'debian-12', memoryMiB: 1024, vcpus: 1 }

  test('sends a ticket that binds owner, brick, broker and the secret beside it', async () => {
    let launched: ReturnType<typeof read> | undefined
    const read = (body: unknown) => decodeCbor(launchRequest, Uint8Array.from(body as Buffer), 8192, 'bad-request')
    const { api, host, broker, vm } = await scene({
      script: {
        'GET /v1/bricks': () => ({ json: { bricks: [brick] } }),
        'POST /v1/vms': body => {
          launched = read(body)
          return { json: { vm: launchedVm(launched.ticket) } }
        },
      },
    })
    expect((await launchVm(api, identity, host, options)).name).toBe(vm.name)
    const { ticket, sealedSecret, options: sent } = launched as ReturnType<typeof read>
    const opened = openTicket(ticket)
    const secret = broker.launcherKey.open(sealedSecret, opened.vm, opened.launch)
    checkTicketTime(opened, Date.now())
    expect(sent).toEqual(options)
    expect(opened).toMatchObject({ owner: identity.signKey, ownerDh: identity.keys.publicKey, broker: broker.key })
    expect(opened.brick).toEqual(new Uint8Array(32).fill(0xcd))
    expect(opened.commitment).toEqual(launchCommitment(nobleSuite, secret))
    expect(secret).toEqual(identity.launchSecret(opened.vm, opened.launch).slice())
  })

  /** what an honest broker answers */
  const launchedVm = (ticket: Uint8Array, more: Partial<Vm> = {}) => {
    const { vm: id, launch } = openTicket(ticket)
    return sampleVm(identity.signKey, { id, launch, state: 'defined', brickSha256: brick.sha256, ...more })
  }

  test.each<Partial<Vm>>([
    { id: '44444444-4444-4444-8444-444444444444' },
    { launch: '44444444-4444-4444-8444-444444444444' },
    { owner: encodeBase64url(new Uint8Array(32)) },
    { name: 'second' },
    { brickSha256: 'ab'.repeat(32) },
  ])('a broker that answers a launch with %j is refused', async more => {
    const { api, host } = await scene({
      script: {
        'GET /v1/bricks': () => ({ json: { bricks: [brick] } }),
        'POST /v1/vms': body => {
          const { ticket } = decodeCbor(launchRequest, Uint8Array.from(body as Buffer), 8192, 'bad-request')
          return { json: { vm: launchedVm(ticket, more) } }
        },
      },
    })
    await expect(launchVm(api, identity, host, options)).rejects.toMatchObject({ code: 'protocol-violation' })
  })

  test('a brick whose digest is none is refused', async () => {
    const bricks = [{ ...brick, sha256: 'not hex' }]
    const { api, host } = await scene({ script: { 'GET /v1/bricks': () => ({ json: { bricks } }) } })
    await expect(launchVm(api, identity, host, options)).rejects.toMatchObject({ code: 'protocol-violation' })
  })

  test('knows beforehand what cannot be launched', async () => {
    const { api, host } = await scene({ script: { 'GET /v1/bricks': () => ({ json: { bricks: [brick] } }) } })
    const launch = (more: object) => launchVm(api, identity, host, { ...options, ...more })
    await expect(launch({ brick: 'other' })).rejects.toMatchObject({ code: 'brick-unknown' })
    await expect(launch({ brickSha256: 'ab'.repeat(32) })).rejects.toMatchObject({ code: 'brick-digest' })
    await expect(launch({ name: 'Not A Name' })).rejects.toMatchObject({ code: 'bad-request' })
    await expect(launch({ memoryMiB: 1 })).rejects.toMatchObject({ code: 'bad-request' })
  })
})
