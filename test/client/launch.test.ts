/** Launching: what the owner signs and seals, and what a broker may answer. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { launchVm } from '../../client/vms/vm.ts'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { launchRequest, type Vm } from '../../protocol/control/api.ts'
import { signLauncherKey } from '../../protocol/control/launcher.ts'
import { checkTicketTime, openTicket } from '../../protocol/control/ticket.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { decodeCbor } from '../../protocol/core/codec.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { endScene, identity, scene } from './scene.ts'
import { sampleBrick, sampleVm } from './small-broker.ts'

afterEach(endScene)

describe('launching', () => {
  const brick = sampleBrick
  const options = { name: 'first', brick: 'debian-12', memoryMiB: 1024, vcpus: 1 }

  test('sends a ticket that binds owner, brick, broker and the secret beside it, and wipes its own copy of that', async () => {
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
    const lent = vi.spyOn(identity, 'launchSecret')
    expect((await launchVm(api, identity, host, options)).name).toBe(vm.name)
    expect(lent.mock.results.map(({ value }) => [...value])).toEqual([[...new Uint8Array(32)]])
    lent.mockRestore()
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

  test.each<[Partial<Vm>, string]>([
    [{ id: '44444444-4444-4444-8444-444444444444' }, 'vm-mismatch'],
    [{ launch: '44444444-4444-4444-8444-444444444444' }, 'ticket-invalid'],
    [{ owner: encodeBase64url(new Uint8Array(32)) }, 'owner-mismatch'],
    [{ name: 'second' }, 'protocol-violation'],
    [{ brickSha256: 'ab'.repeat(32) }, 'brick-digest'],
  ])('a broker that answers a launch with %j is refused, and the owner is told', async (more, code) => {
    const { api, host } = await scene({
      script: {
        'GET /v1/bricks': () => ({ json: { bricks: [brick] } }),
        'POST /v1/vms': body => {
          const { ticket } = decodeCbor(launchRequest, Uint8Array.from(body as Buffer), 8192, 'bad-request')
          return { json: { vm: launchedVm(ticket, more) } }
        },
      },
    })
    await expect(launchVm(api, identity, host, options)).rejects.toMatchObject({ code })
  })

  test('a launcher’s key that the broker did not sign is broker-mismatch, and no secret is sealed to it', async () => {
    let asked = false
    const key = new Uint8Array(32).fill(3)
    const launcher = {
      key: encodeBase64url(key),
      signature: encodeBase64url(signLauncherKey(key, new Uint8Array(32).fill(43))),
    }
    const id = encodeBase64url(signingPublicKey(new Uint8Array(32).fill(42)))
    const info = {
      id,
      version: '1',
      launcher,
      acceleration: 'tcg',
      accelerationReason: '',
      hostMemory: { locked: true, swap: 'none' },
      ssh: null,
    }
    const { api, host } = await scene({
      script: {
        'GET /v1/bricks': () => ({ json: { bricks: [brick] } }),
        'GET /v1/broker': () => ({ json: info }),
        'POST /v1/vms': () => {
          asked = true
          return { json: {} }
        },
      },
    })
    await expect(launchVm(api, identity, host, options)).rejects.toMatchObject({ code: 'broker-mismatch' })
    expect(asked).toBe(false)
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
