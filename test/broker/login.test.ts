/** Logins and who may do what. SPEC §3.1, §3.3 */
import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { Identity } from '../../client/identity/identity.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { ROUTES, type RouteName } from '../../protocol/control/api.ts'
import { signCertificate } from '../../protocol/control/certificate.ts'
import { signLogin } from '../../protocol/control/login.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { Rig } from './rig.ts'
import { enrolled, newBoot } from './sockets.ts'

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

/** A login with its parts bent. */
async function logIn(bend: { nonce?: string; broker?: Uint8Array; signer?: Identity } = {}) {
  const identity = rig.people.owner
  const user = encodeBase64url(identity.signKey)
  const { json } = await rig.call(null, 'login.challenge', { body: { user } })
  const nonce = bend.nonce ?? json.nonce
  const broker = bend.broker ?? decodeBase64url(rig.broker.id)
  const signature = (bend.signer ?? identity).withSigningSeed(seed =>
    encodeBase64url(signLogin(decodeBase64url(nonce), broker, seed)),
  )
  const body = { user, nonce, signature }
  return { body, answer: await rig.call(null, 'login.answer', { body }) }
}

describe('login', () => {
  test('gives the role, and a token that serves', async () => {
    expect(await rig.api('owner').login()).toBe('user')
    expect(await rig.api('administrator').login()).toBe('administrator')
    const { answer } = await logIn()
    expect(answer.status).toBe(200)
    expect((await rig.call(null, 'vm.list', { token: answer.json.token })).json).toEqual({ vms: [] })
  })

  test('refuses an identity that is not in the configuration, as the client library tells it', async () => {
    const api = new BrokerApi({ url: rig.broker.origin, identity: Identity.create(nobleSuite), pins: pinsInMemory() })
    await expect(api.login()).rejects.toMatchObject({ code: 'identity-wrong' })
  })

  test('serves a challenge once', async () => {
    const { body, answer } = await logIn()
    expect(answer.status).toBe(200)
    expect((await rig.call(null, 'login.answer', { body })).code).toBe('identity-wrong')
  })

  test.each([
    ['a nonce that was not given', () => ({ nonce: encodeBase64url(randomBytes(32)) })],
    ['a signature for another broker', () => ({ broker: new Uint8Array(32) })],
    ["another user's signature", () => ({ signer: rig.people.other })],
  ])('refuses %s', async (_what, bend) => {
    expect((await logIn(bend())).answer.code).toBe('identity-wrong')
  })

  test('refuses a challenge that is too old, and a token after its hour', async () => {
    const own = await Rig.start({ brick: false })
    try {
      const identity = own.people.owner
      const user = encodeBase64url(identity.signKey)
      const { nonce } = (await own.call(null, 'login.challenge', { body: { user } })).json
      const signature = identity.withSigningSeed(seed =>
        encodeBase64url(signLogin(decodeBase64url(nonce), decodeBase64url(own.broker.id), seed)),
      )
      own.clock.advance(60_001)
      expect((await own.call(null, 'login.answer', { body: { user, nonce, signature } })).code).toBe('identity-wrong')
      const token = await own.token('owner')
      own.clock.advance(3_600_001)
      expect((await own.call(null, 'vm.list', { token })).code).toBe('login-expired')
      // the client library logs in again by itself
      expect(await own.api().vms()).toEqual([])
    } finally {
      await own.close()
    }
  })

  test('nobody is refused a login for the many that others ask for, in the same name and from the same address', async () => {
    const user = encodeBase64url(rig.people.owner.signKey)
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all(
        Array.from({ length: 100 }, () => rig.call(null, 'login.challenge', { body: { user } })),
      )
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
      expect(new Set(answers.map(({ json }) => json.nonce)).size).toBe(answers.length)
    }
    expect((await logIn()).answer.status).toBe(200)
  })

  test('a challenge serves the user alone that it was made for', async () => {
    const own = encodeBase64url(rig.people.other.signKey)
    const { nonce } = (await rig.call(null, 'login.challenge', { body: { user: own } })).json
    expect((await logIn({ nonce })).answer.code).toBe('identity-wrong')
  })

  test('a user who asks for many logins does not end those of others', async () => {
    const token = await rig.token('other')
    const own = Array.from({ length: 12 }, () => logIn())
    const answers = await Promise.all(own)
    expect(answers.filter(({ answer }) => answer.status === 200).length).toBeGreaterThan(0)
    expect((await rig.call(null, 'vm.list', { token })).status).toBe(200)
    rig.clock.advance(20_000)
  })
})

test('answers may be read by pages of listed origins only, and there are no cookies', async () => {
  const listed = 'http://127.0.0.1:7780'
  const own = await Rig.start({ brick: false, origins: [listed] })
  try {
    const allowed = async (origin: string, method: string) => {
      const asked = {
        origin,
        'access-control-request-method': 'GET',
        'access-control-request-headers': 'authorization',
      }
      const { headers } = await fetch(`${own.broker.origin}/v1/vms`, { method, headers: asked })
      expect(headers.get('set-cookie')).toBeNull()
      expect(headers.get('access-control-allow-credentials')).toBeNull()
      return headers.get('access-control-allow-origin')
    }
    for (const method of ['OPTIONS', 'GET']) {
      expect(await allowed(listed, method)).toBe(listed)
      for (const origin of ['http://127.0.0.1:7781', `${listed}.example`, 'null']) {
        expect(await allowed(origin, method)).toBeNull()
      }
    }
  } finally {
    await own.close()
  }
})

describe('access', () => {
  const guarded = (Object.keys(ROUTES) as RouteName[]).filter(name => ROUTES[name].access !== 'anyone')

  test.each(guarded)('%s needs a login', async route => {
    for (const token of [undefined, '', 'A'.repeat(43), 'x'.repeat(5000)]) {
      const answer = await rig.call(null, route, {
        id: randomUUID(),
        body: ROUTES[route].method === 'GET' ? undefined : {},
        ...(token === undefined ? {} : { token }),
      })
      expect([answer.status, answer.code]).toEqual([401, 'login-expired'])
    }
  })

  test.each(guarded.filter(name => ROUTES[name].access === 'administrator'))(
    '%s is for administrators',
    async route => {
      expect(
        (await rig.call('owner', route, { id: 'stone', ...(ROUTES[route].method === 'POST' ? { body: {} } : {}) }))
          .code,
      ).toBe('denied')
    },
  )

  test("another user's VM and drive do not exist, an administrator's view has them", async () => {
    const launched = await rig.launch('mine')
    const { id } = launched.vm
    const boot = newBoot()
    const agent = await enrolled(rig.broker.agents, launched, boot)
    const drive = await rig.api().createDrive({ id: randomUUID(), name: 'data', sizeBytes: 2 ** 24, note: '' })
    const vm = await rig.vm(id)
    const certificate = rig.people.owner.withSigningSeed(seed =>
      encodeBase64url(
        signCertificate(
          {
            version: 1,
            vm: id,
            launch: vm.launch,
            generation: 1,
            agentDh: boot.keys.publicKey,
            agentSign: decodeBase64url(vm.agent?.agentSign ?? ''),
            provenBy: launched.ticket.commitment,
            nextBoot: signingPublicKey(boot.nextSeed),
            serial: 1,
            confirmed: false,
          },
          seed,
        ),
      ),
    )
    const calls: [RouteName, string, unknown?][] = [
      ['vm.show', id],
      ['vm.log', id],
      ['vm.session', id, { kind: 'channel' }],
      ['vm.certify', id, { certificate }],
      ['vm.stop', id],
      ['vm.delete', id],
      ['drive.note', drive.id, { note: 'x' }],
      ['drive.attach', drive.id, { vm: id }],
      ['drive.detach', drive.id],
      ['drive.delete', drive.id],
    ]
    for (const [route, thing, body] of calls) {
      const denied = await rig.call('other', route, { id: thing, body })
      const unknown = await rig.call('other', route, { id: randomUUID(), body })
      expect([route, denied.status, denied.code]).toEqual([route, 404, 'not-found'])
      // the same words but for the id and the request: nothing tells that it exists
      const blank = (answer: typeof denied, own: string) =>
        JSON.stringify({ ...answer.json.error, request: '' }).replaceAll(own, 'ID')
      expect(blank(denied, thing)).toBe(blank(unknown, /[0-9a-f-]{36}/.exec(unknown.json.error.detail)?.[0] ?? ''))
    }
    expect((await rig.call('other', 'vm.list')).json.vms).toEqual([])
    expect((await rig.call('other', 'drive.list')).json.drives).toEqual([])
    expect((await rig.vm(id)).state).toBe('enrolled')
    expect((await rig.call('owner', 'drive.list')).json.drives[0]).toMatchObject({ note: '', attachedTo: null })

    expect((await rig.call('administrator', 'vm.show', { id })).status).toBe(200)
    expect((await rig.call('administrator', 'vm.list')).json.vms).toHaveLength(1)
    expect((await rig.call('administrator', 'vm.delete', { id })).status).toBe(200)
    expect((await rig.call('owner', 'vm.show', { id })).code).toBe('not-found')
    expect(rig.driver.domains.has(id)).toBe(false)
    await agent.closed
  })

  test("a drive is plugged into a VM of its owner only, and other people's VMs are not found for it", async () => {
    const mine = await rig.launch('mine-2')
    const theirs = await rig.launch('theirs', 'other')
    const drive = await rig.api('other').createDrive({ id: randomUUID(), name: 'd', sizeBytes: 2 ** 24, note: '' })
    expect((await rig.call('other', 'drive.attach', { id: drive.id, body: { vm: mine.vm.id } })).code).toBe('not-found')
    expect((await rig.call('administrator', 'drive.attach', { id: drive.id, body: { vm: mine.vm.id } })).code).toBe(
      'denied',
    )
    expect((await rig.call('other', 'drive.attach', { id: drive.id, body: { vm: theirs.vm.id } })).status).toBe(200)
    for (const [id, who] of [
      [mine.vm.id, 'owner'],
      [theirs.vm.id, 'other'],
    ] as const)
      expect((await rig.call(who, 'vm.delete', { id })).status).toBe(200)
  })

  test('refuses bodies with unknown members, of the wrong shape, or too long', async () => {
    const bad = [{ id: 1 }, { id: randomUUID(), name: 'a', sizeBytes: 2 ** 24, note: '', more: 1 }, [], 'text', null]
    for (const body of bad) expect((await rig.call('owner', 'drive.create', { body })).code).toBe('bad-request')
    expect((await rig.call('owner', 'drive.create', { body: new Uint8Array([0x7b, 0xff]) })).code).toBe('bad-request')
    expect((await rig.call('owner', 'vm.create', { body: new Uint8Array(100) })).code).toBe('bad-request')
    expect((await rig.call('owner', 'vm.create', { body: new Uint8Array(70_000) })).code).toBe('limit-exceeded')
    for (const publicKey of [
      '',
      'ssh-ed25519',
      'ssh-ed25519 AAAA',
      `ssh-rsa ${Buffer.from('\0\0\0\vssh-ed25519').toString('base64')}`,
    ])
      expect((await rig.call('owner', 'ssh.key', { body: { publicKey } })).code).toBe('bad-request')
  })

  test('a certificate that is not base64url, or not the owner’s, is refused as such', async () => {
    const launched = await rig.launch('certified')
    const agent = await enrolled(rig.broker.agents, launched)
    for (const certificate of ['', '%%%', encodeBase64url(randomBytes(200)), 'A'.repeat(8193)]) {
      const { code } = await rig.call('owner', 'vm.certify', { id: launched.vm.id, body: { certificate } })
      expect(code).toBe(certificate.length > 8192 ? 'bad-request' : 'certificate-invalid')
    }
    await rig.call('owner', 'vm.delete', { id: launched.vm.id })
    await agent.closed
  })
})
