/**
 * Identities, signed statements and sealed launch secrets against a second implementation, written from the specification
 * (test/vectors/make-statements.mjs). SPEC §2.1, §2.2, §2.3, §2.4, §2.5, §2.6, §2.7, §2.8, §2.9, §3.1, §3.2
 */

import { wordlist } from '@scure/bip39/wordlists/english.js'
import { describe, expect, test } from 'vitest'
import { bootKeys } from '../../agent/boot/boot-keys.ts'
import { openDriveNote, sealDriveNote } from '../../client/drives/drive-note.ts'
import { Identity } from '../../client/identity/identity.ts'
import { sealLaunchSecret } from '../../client/vms/sealed-secret.ts'
import { bootWords } from '../../protocol/channel/comparison.ts'
import { launchCommitment, launchSeed } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { accountOf, driveGroupOf } from '../../protocol/control/account.ts'
import { type BootStatement, openBoot, signBoot, signProtest, verifyProtest } from '../../protocol/control/boot.ts'
import { type AgentCertificate, openCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { type Enrolment, openEnrolment, signEnrolment } from '../../protocol/control/enrolment.ts'
import { type Grant, openGrant, signGrant } from '../../protocol/control/grant.ts'
import { signLauncherKey, verifyLauncherKey } from '../../protocol/control/launcher.ts'
import {
  parseIdentity,
  signBrokerProof,
  signLogin,
  verifyBrokerProof,
  verifyLogin,
} from '../../protocol/control/login.ts'
import { type Manifest, openManifest, signManifest } from '../../protocol/control/manifest.ts'
import { type LaunchTicket, openTicket, signTicket } from '../../protocol/control/ticket.ts'
import { encodeHex } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { BACKENDS } from '../support/backends.ts'
import { isPrinted, readVectors } from '../support/vector-file.ts'

interface Signed<T> {
  readonly statement: T
  readonly signed: Uint8Array
}
interface Vectors {
  readonly ids: { readonly vm: string; readonly launch: string; readonly drive: string }
  readonly identities: readonly {
    readonly seed: Uint8Array
    readonly sign: Uint8Array
    readonly dh: Uint8Array
    readonly text: string
    readonly launchSecret: Uint8Array
    readonly salt: Uint8Array
    readonly driveKey: Uint8Array
    readonly notes: readonly { readonly headerDigest: Uint8Array | null; readonly note: string }[]
  }[]
  readonly launchSecrets: readonly Readonly<Record<'secret' | 'launchSeed' | 'commitment', Uint8Array>>[]
  readonly boots: readonly Readonly<Record<'seed' | 'dh' | 'sign', Uint8Array>>[]
  readonly ownerSeed: Uint8Array
  readonly accounts: readonly { readonly key: Uint8Array; readonly uid: number; readonly name: string }[]
  readonly driveGroups: readonly { readonly id: string; readonly gid: number; readonly name: string }[]
  readonly tickets: readonly Signed<LaunchTicket>[]
  readonly certificates: readonly Signed<AgentCertificate>[]
  readonly grants: readonly Signed<Grant>[]
  readonly manifests: readonly { readonly seed: Uint8Array; readonly manifest: Manifest }[]
  readonly broker: Readonly<
    Record<
      'seed' | 'key' | 'nonce' | 'user' | 'userSeed' | 'proof' | 'login' | 'launcher' | 'launcherSignature',
      Uint8Array
    >
  >
  readonly sealedLaunchSecrets: readonly ({ readonly vm: string; readonly launch: string } & Readonly<
    Record<'ephemeral' | 'launcher' | 'secret' | 'sealed', Uint8Array>
  >)[]
  readonly bootStatements: readonly (Signed<BootStatement> &
    Readonly<Record<'oneUseSeed' | 'provenBy' | 'protestSeed' | 'protest' | 'words', Uint8Array>>)[]
  readonly enrolments: readonly ({ readonly statement: Enrolment } & Readonly<
    Record<'nonce' | 'agentSeed' | 'boot' | 'body' | 'signature', Uint8Array>
  > & { readonly line: readonly Uint8Array[] })[]
  readonly refusedTickets: Readonly<Record<string, Uint8Array>>
}

const vectors = readVectors<Vectors>('statements')
const { ids, ownerSeed, broker } = vectors
const owner = signingPublicKey(ownerSeed)
/** one bit of the last byte changed */
const bent = (bytes: Uint8Array) => bytes.with(-1, (bytes.at(-1) ?? 0) ^ 1)

test('the second implementation prints the file of its vectors', () =>
  expect(isPrinted('statements', 'make-statements.mjs')).toBe(true))

describe.each(Object.entries(BACKENDS))('%s', (_, { suite }) => {
  test.each(vectors.identities.map(vector => [encodeHex(vector.sign).slice(0, 8), vector] as const))(
    'identity %s yields the keys, secrets and notes of the second implementation',
    (_name, vector) => {
      const identity = Identity.fromSeed(suite, vector.seed)
      expect(identity.signKey).toEqual(vector.sign)
      expect(identity.keys.publicKey).toEqual(vector.dh)
      expect(identity.text).toBe(vector.text)
      expect(parseIdentity(vector.text)).toEqual({ sign: vector.sign, dh: vector.dh })
      expect(encodeHex(identity.launchSecret(ids.vm, ids.launch))).toBe(encodeHex(vector.launchSecret))
      expect(encodeHex(identity.driveKey(ids.drive, vector.salt))).toBe(encodeHex(vector.driveKey))
      for (const { headerDigest, note } of vector.notes) {
        expect(sealDriveNote(identity, ids.drive, { salt: vector.salt, headerDigest })).toBe(note)
        expect(openDriveNote(identity, ids.drive, note)).toEqual({ salt: vector.salt, headerDigest })
      }
    },
  )

  test('a launch secret yields the seed and the commitment of the second implementation', () => {
    for (const { secret, launchSeed: seed, commitment } of vectors.launchSecrets) {
      expect(encodeHex(launchSeed(suite, secret))).toBe(encodeHex(seed))
      expect(launchCommitment(suite, secret)).toEqual(commitment)
    }
  })

  test("a boot's seed yields the agent's keys of the second implementation", () => {
    for (const { seed, dh, sign } of vectors.boots) {
      const keys = bootKeys(suite, { read: () => seed.slice(), write: () => true })
      expect([keys.dh.publicKey, keys.signPublicKey]).toEqual([dh, sign])
    }
  })

  test('a launch secret is sealed as the second implementation seals it', async () => {
    for (const { vm, launch, ephemeral, launcher, secret, sealed } of vectors.sealedLaunchSecrets) {
      const fixed = { ...suite, generateKeyPair: () => suite.importKeyPair(ephemeral) }
      const launcherKey = suite.importKeyPair(launcher).publicKey
      expect(encodeHex(await sealLaunchSecret(fixed, launcherKey, { vm, launch, secret }))).toBe(encodeHex(sealed))
    }
  })
})

test('tickets, certificates and grants are signed and opened as the second implementation signs them', () => {
  for (const { statement, signed } of vectors.tickets) {
    expect(encodeHex(signTicket(statement, ownerSeed))).toBe(encodeHex(signed))
    expect(openTicket(signed)).toEqual(statement)
    expect(() => openTicket(bent(signed))).toThrow()
  }
  for (const { statement, signed } of vectors.certificates) {
    expect(encodeHex(signCertificate(statement, ownerSeed))).toBe(encodeHex(signed))
    expect(openCertificate(signed, owner)).toEqual(statement)
    expect(() => openCertificate(bent(signed), owner)).toThrow()
  }
  for (const { statement, signed } of vectors.grants) {
    expect(encodeHex(signGrant(statement, ownerSeed))).toBe(encodeHex(signed))
    expect(openGrant(signed, owner)).toEqual(statement)
    expect(() => openGrant(bent(signed), owner)).toThrow()
  }
})

test.each(Object.entries(vectors.refusedTickets))('a ticket %s is ticket-invalid', (_, signed) => {
  expect(() => openTicket(signed)).toThrow(expect.objectContaining({ code: 'ticket-invalid' }))
})

test('a certificate or grant above 4,352 bytes is invalid, and no limit that was exceeded', () => {
  const long = new Uint8Array(4_353)
  expect(() => openCertificate(long, owner)).toThrow(expect.objectContaining({ code: 'certificate-invalid' }))
  expect(() => openGrant(long, owner)).toThrow(expect.objectContaining({ code: 'grant-invalid' }))
})

test('manifests are signed and opened as the second implementation signs them', () => {
  for (const { seed, manifest } of vectors.manifests) {
    const { builder, signature, ...statement } = manifest
    expect(signManifest(statement, seed)).toEqual(manifest)
    expect(openManifest(JSON.stringify(manifest))).toEqual(manifest)
    for (const change of [{ sizeBytes: 1 }, { version: '12' }, { virtualSizeBytes: manifest.sizeBytes }]) {
      expect(() => openManifest(JSON.stringify({ ...manifest, ...change }))).toThrow()
    }
  }
})

test("login, the broker's proof and the launcher's key are signed as the second implementation signs them", () => {
  const { seed, key, nonce, user, userSeed, proof, login, launcher, launcherSignature } = broker
  expect(signBrokerProof(nonce, user, seed)).toEqual(proof)
  expect(verifyBrokerProof(nonce, user, proof, key)).toBe(true)
  expect(verifyBrokerProof(nonce, key, proof, key)).toBe(false)
  expect(signLogin(nonce, key, userSeed)).toEqual(login)
  expect(verifyLogin(nonce, key, login, user)).toBe(true)
  expect(verifyLogin(nonce, user, login, user)).toBe(false)
  expect(signLauncherKey(launcher, seed)).toEqual(launcherSignature)
  expect(verifyLauncherKey(launcher, launcherSignature, key)).toBe(true)
  expect(verifyLauncherKey(launcher, proof, key)).toBe(false)
})

test('accounts of people and groups of drives are those of the second implementation', () => {
  for (const { key, uid, name } of vectors.accounts) expect(accountOf(key)).toEqual({ id: uid, name })
  for (const { id, gid, name } of vectors.driveGroups) expect(driveGroupOf(id)).toEqual({ id: gid, name })
})

test('boot statements and protests are signed and opened as the second implementation signs them', () => {
  const invalid = expect.objectContaining({ code: 'enrolment-invalid' })
  for (const { statement, oneUseSeed, provenBy, signed, protestSeed, protest } of vectors.bootStatements) {
    expect(encodeHex(signBoot(statement, oneUseSeed))).toBe(encodeHex(signed))
    expect(openBoot(signed)).toEqual({ ...statement, provenBy, signed })
    expect(() => openBoot(bent(signed))).toThrow(invalid)
    expect(() => openBoot(vectors.certificates[0]?.signed as Uint8Array)).toThrow(invalid)
    expect(encodeHex(signProtest(signed, protestSeed))).toBe(encodeHex(protest))
    expect(verifyProtest(signed, protest, statement.agentSign)).toBe(true)
    expect(verifyProtest(bent(signed), protest, statement.agentSign)).toBe(false)
    expect(verifyProtest(signed, protest, provenBy)).toBe(false)
  }
})

test('the words of a boot are those of its keys', () => {
  const [first, second] = vectors.bootStatements.map(({ statement, words }) => {
    const told = bootWords(nobleSuite, statement).split(' ')
    const bits = told.map(word => wordlist.indexOf(word).toString(2).padStart(11, '0')).join('')
    const expected = [...words].map(byte => byte.toString(2).padStart(8, '0')).join('')
    expect(bits).toBe(expected.slice(0, 66))
    return told.join(' ')
  })
  // the same keys, whatever else the statement says
  expect(first).toBe(second)
})

test('enrolments are signed and opened as the second implementation signs them', () => {
  for (const { statement, nonce, boot, line, body, signature, agentSeed } of vectors.enrolments) {
    const signed = { boot, line, body, signature }
    expect(signEnrolment(statement, { boot, line }, nonce, agentSeed)).toEqual(signed)
    expect(openEnrolment(signed, nonce)).toEqual({
      boot: openBoot(boot),
      line: line.map(each => openBoot(each)),
      enrolment: statement,
    })
    const other = vectors.bootStatements[1]?.signed as Uint8Array
    for (const wrong of [
      () => openEnrolment(signed, bent(nonce)),
      () => openEnrolment({ ...signed, boot: bent(boot) }, nonce),
      () => openEnrolment({ ...signed, boot: other }, nonce),
      () => openEnrolment({ ...signed, line: [boot] }, nonce),
      () => openEnrolment({ ...signed, signature: bent(signature) }, nonce),
    ]) {
      expect(wrong).toThrow(expect.objectContaining({ code: 'enrolment-invalid' }))
    }
  }
})
