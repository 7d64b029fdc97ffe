/**
 * Prints the vectors of identities, signed statements and sealed launch secrets by the second implementation, the same at
 * each run:
 *
 *   node test/vectors/make-statements.mjs > test/vectors/statements.json
 */
import {
  base64url,
  cat,
  cbor,
  dh,
  dhPublic,
  fixed,
  hex,
  hkdf,
  hmac,
  plain,
  seal,
  sha256,
  sign,
  signBytes,
  signPublic,
} from './second.mjs'
import { agentKeys, envelope, launchSecretOf, launchSeedOf, userKeys } from './second-channel.mjs'

const NONE = Buffer.alloc(0)
const vm = '11111111-1111-4111-8111-111111111111'
const launch = '22222222-2222-4222-8222-222222222222'
const drive = '33333333-3333-4333-8333-333333333333'
const owner = fixed('owner')
const grantee = fixed('grantee')
const boot = fixed('boot')
const ownerSign = userKeys(owner).sign
const agent = agentKeys(boot)

/** SPEC §2.3, §3.1 */
function identity(seed) {
  const keys = userKeys(seed)
  const [sign, dh] = [signPublic(keys.sign), dhPublic(keys.dh)]
  const salt = fixed('drive salt')
  const note = headerDigest => {
    const mac = hmac(keys.note, cbor({ drive, salt, headerDigest }))
    return { headerDigest, note: base64url(cbor({ version: 1, salt, headerDigest, mac })) }
  }
  return {
    seed,
    sign,
    dh,
    text: `mortar1${base64url(cat(sign, dh))}`,
    launchSecret: launchSecretOf(seed, vm, launch),
    salt,
    driveKey: hkdf(seed, cat(Buffer.from(drive), salt), 'mortar drive key v1', 64),
    notes: [note(null), note(fixed('header'))],
  }
}

/** SPEC §2.3 */
function launchSecret(secret) {
  const seed = launchSeedOf(secret)
  return { secret, launchSeed: seed, commitment: signPublic(seed) }
}

/** SPEC §2.2 */
function ticket(more) {
  const { sign, dh } = userKeys(owner)
  const statement = {
    version: 1,
    vm,
    launch,
    owner: signPublic(sign),
    ownerDh: dhPublic(dh),
    brick: fixed('brick'),
    broker: signPublic(fixed('broker')),
    commitment: signPublic(launchSeedOf(launchSecretOf(owner, vm, launch))),
    nonce: fixed('nonce').subarray(0, 16),
    expires: 1_800_000_000,
    ...more,
  }
  return { statement, signed: envelope('mortar launch ticket v1', statement, sign) }
}

/** SPEC §2.4 */
function certificate(generation) {
  const statement = {
    version: 1,
    vm,
    launch,
    generation,
    agentDh: dhPublic(agent.dh),
    agentSign: signPublic(agent.sign),
    provenBy: signPublic(launchSeedOf(launchSecretOf(owner, vm, launch))),
    nextBoot: signPublic(fixed('next boot')),
    serial: 1_800_000_000_000,
    confirmed: generation > 24,
  }
  return { statement, signed: envelope('mortar agent certificate v1', statement, ownerSign) }
}

/** SPEC §2.8 */
function bootStatement(oneUse, more) {
  const statement = {
    version: 1,
    vm,
    launch,
    generation: 1,
    boot: '44444444-4444-4444-8444-444444444444',
    agentDh: dhPublic(agent.dh),
    agentSign: signPublic(agent.sign),
    nextBoot: signPublic(fixed('next boot')),
    ...more,
  }
  const signed = envelope('mortar boot v1', statement, oneUse)
  return {
    statement,
    oneUseSeed: oneUse,
    provenBy: signPublic(oneUse),
    signed,
    protestSeed: agent.sign,
    protest: sign('mortar boot protest v1', signed, agent.sign),
    words: hkdf(cat(statement.agentDh, statement.agentSign), NONE, 'mortar boot words v1', 9),
  }
}

/** SPEC §2.7 */
function grant(more) {
  const keys = userKeys(grantee)
  const statement = {
    version: 1,
    vm,
    grantee: signPublic(keys.sign),
    granteeDh: dhPublic(keys.dh),
    role: 'user',
    permissions: ['info', 'exec', 'drives', 'tunnel'],
    drives: [drive],
    targets: ['localhost:80', 'db.example:5432', '10.0.0.1:65535', '[2001:db8::1]:443'],
    expires: 1_900_000_000,
    serial: 7,
    ...more,
  }
  return { statement, signed: envelope('mortar grant v1', statement, ownerSign) }
}

/** SPEC §2.5 */
function manifest(more) {
  const seed = fixed('builder')
  const members = {
    format: 1,
    name: 'debian-12',
    version: '12.8.0',
    sizeBytes: 734_003_200,
    virtualSizeBytes: 4_294_967_296,
    sha256: hex(fixed('image')),
    agentVersion: '0.1.0',
    createdAt: '2026-01-02T03:04:05.000Z',
    builder: base64url(signPublic(seed)),
    ...more,
  }
  const lines = Object.entries(members).map(([name, value]) => `${name}=${value}\n`)
  const signature = sign('mortar brick manifest v1', Buffer.from(lines.join('')), seed)
  return { seed, manifest: { ...members, signature: base64url(signature) } }
}

/** SPEC §3.1, §2.6 */
function broker() {
  const seed = fixed('broker')
  const nonce = fixed('challenge')
  const user = signPublic(ownerSign)
  const launcher = dhPublic(fixed('launcher'))
  return {
    seed,
    key: signPublic(seed),
    nonce,
    user,
    userSeed: ownerSign,
    proof: sign('mortar broker v1', cat(nonce, user), seed),
    login: sign('mortar login v1', cat(nonce, signPublic(seed)), ownerSign),
    launcher,
    launcherSignature: sign('mortar launcher key v1', launcher, seed),
  }
}

/** SPEC §2.6 */
function sealedLaunchSecret(secret) {
  const [ephemeral, launcher] = [fixed('sealing'), fixed('launcher')]
  const salt = cat(dhPublic(ephemeral), dhPublic(launcher), Buffer.from(vm), Buffer.from(launch))
  const key = hkdf(dh(ephemeral, dhPublic(launcher)), salt, 'mortar sealed launch secret v1', 32)
  return { vm, launch, ephemeral, launcher, secret, sealed: cat(dhPublic(ephemeral), seal(key, 0, NONE, secret)) }
}

/** SPEC §3.2 */
function enrolment(more, before = []) {
  const statement = {
    version: 1,
    addresses: ['10.0.2.15', 'fec0::5054:ff:fe12:3456'],
    brick: fixed('brick'),
    agentVersion: '0.1.0',
    protocols: [1],
    ...more,
  }
  const nonce = fixed('enrolment challenge')
  const oneUse = before.length > 0 ? fixed('next boot') : launchSeedOf(launchSecretOf(owner, vm, launch))
  const { signed: boot } = bootStatement(oneUse, { nextBoot: signPublic(fixed('one after')) })
  const body = cbor(statement)
  const signature = sign('mortar enrolment v1', cat(nonce, sha256(boot), body), agent.sign)
  return { statement, nonce, agentSeed: agent.sign, boot, line: before, body, signature }
}

/** SPEC §2.1: what a receiver refuses */
function refusedTickets() {
  const label = 'mortar launch ticket v1'
  const { statement } = ticket({})
  const { expires, ...timeless } = statement
  const body = cbor(statement)
  const other = fixed('somebody else')
  const signedBy = (seed, key, signature) =>
    cbor({ body, key: signPublic(key), signature: signature ?? sign(label, body, seed) })
  const members = { body, key: signPublic(ownerSign), signature: sign(label, body, ownerSign) }
  const reversed = ['signature', 'key', 'body'].map(name => cat(cbor(name), cbor(members[name])))
  return {
    'without the zero byte': signedBy(ownerSign, ownerSign, signBytes(cat(Buffer.from(label), body), ownerSign)),
    'without a label': signedBy(ownerSign, ownerSign, signBytes(body, ownerSign)),
    'under the label of another statement': envelope('mortar grant v1', statement, ownerSign),
    'signed by another key': envelope(label, statement, other),
    'signed by another key than it names': signedBy(other, ownerSign),
    'that names another key than signed it': signedBy(ownerSign, other),
    'of another version': envelope(label, { ...statement, version: 2 }, ownerSign),
    'with a member that nobody knows': envelope(label, { ...statement, more: 1 }, ownerSign),
    'without a time': envelope(label, timeless, ownerSign),
    'with a time beyond 2^53 - 1': envelope(label, { ...statement, expires: expires * 2 ** 24 }, ownerSign),
    'with a VM in capitals': envelope(label, { ...statement, vm: 'AAAAAAAA-1111-4111-8111-111111111111' }, ownerSign),
    'with a byte behind it': cat(cbor(members), [0]),
    'whose members are not sorted': cat([0xa3], ...reversed),
    'with a member twice': cat([0xa4], cbor(members).subarray(1), cbor('signature'), cbor(members.signature)),
    'above 4,352 bytes': envelope(label, { ...statement, more: 'x'.repeat(4_096) }, ownerSign),
  }
}

/** SPEC §2.9: a number of so many bits behind `least`, from SHA-256. */
function number(label, from, least, bits) {
  const digest = sha256(cat(Buffer.from(label), [0], from))
  return least + (digest.readUInt32BE(0) % 2 ** bits)
}

const account = key => {
  const uid = number('mortar account v1', key, 0x70000000, 27)
  return { key, uid, name: `m${uid.toString(16)}` }
}
const driveGroup = id => {
  const gid = number('mortar drive group v1', Buffer.from(id), 0x78000000, 26)
  return { id, gid, name: `d${gid.toString(16)}` }
}

const result = {
  source: 'test/vectors/make-statements.mjs',
  ids: { vm, launch, drive },
  identities: [owner, grantee, Buffer.alloc(32), Buffer.alloc(32, 255)].map(identity),
  launchSecrets: [launchSecretOf(owner, vm, launch), fixed('secret'), Buffer.alloc(32)].map(launchSecret),
  boots: [boot, fixed('another boot')].map(seed => ({
    seed,
    dh: dhPublic(agentKeys(seed).dh),
    sign: signPublic(agentKeys(seed).sign),
  })),
  ownerSeed: ownerSign,
  tickets: [ticket({}), ticket({ expires: 0 }), ticket({ expires: 2 ** 53 - 1 })],
  certificates: [1, 24, 2 ** 31 - 1].map(certificate),
  grants: [
    grant({}),
    grant({ role: 'manager', permissions: ['power', 'exec'], drives: null, targets: [], serial: 0 }),
    grant({ permissions: [], drives: [], targets: [], expires: 2 ** 53 - 1, serial: 2 ** 53 - 1 }),
    grant({ after: Buffer.alloc(16, 9) }),
  ],
  manifests: [manifest({}), manifest({ name: 'a', version: 'älter', sizeBytes: 2 ** 53 - 1 })],
  broker: broker(),
  sealedLaunchSecrets: [launchSecretOf(owner, vm, launch), Buffer.alloc(32)].map(sealedLaunchSecret),
  bootStatements: [
    bootStatement(launchSeedOf(launchSecretOf(owner, vm, launch)), {}),
    bootStatement(fixed('next boot'), { generation: 300, nextBoot: signPublic(fixed('one after')) }),
  ],
  enrolments: [
    enrolment({}),
    enrolment({ addresses: [], protocols: [1, 2, 65_535] }, [
      bootStatement(launchSeedOf(launchSecretOf(owner, vm, launch)), {}).signed,
    ]),
  ],
  refusedTickets: refusedTickets(),
  accounts: [signPublic(ownerSign), fixed('grantee'), Buffer.alloc(32), Buffer.alloc(32, 255)].map(account),
  driveGroups: [drive, vm, launch].map(driveGroup),
}
console.log(
  JSON.stringify(
    plain(result, bytes => ({ hex: hex(bytes) })),
    null,
    1,
  ),
)
