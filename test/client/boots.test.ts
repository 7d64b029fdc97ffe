/** Which boot is the VM, as the owner's client judges what a broker shows that may lie. SPEC §2.8 */
import { afterEach, expect, test } from 'vitest'
import { connectVm } from '../../client/sessions/connect.ts'
import { matching } from '../../client/vms/boot-words.ts'
import { candidatesOf, judgeBoot } from '../../client/vms/boots.ts'
import { confirmBoot } from '../../client/vms/confirm.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { signProtest } from '../../protocol/control/boot.ts'
import { type AgentCertificate, openCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import {
  agentKeys,
  agentSign,
  endScene,
  identity,
  launchKey,
  nextBoot,
  nextSeed,
  scene,
  statementFor,
} from './scene.ts'
import { sampleAgent, sampleVm } from './small-broker.ts'

afterEach(endScene)

const { id, launch } = sampleVm(identity.signKey)
const agentSeed = new Uint8Array(32).fill(31)
/** the boot that the owner certified, and keys of others */
const known = {
  agentDh: encodeBase64url(new Uint8Array(32).fill(30)),
  agentSign: encodeBase64url(signingPublicKey(agentSeed)),
}
const here = sampleAgent(agentKeys.publicKey, agentSign)
const other = {
  agentDh: encodeBase64url(new Uint8Array(32).fill(40)),
  agentSign: encodeBase64url(new Uint8Array(32).fill(41)),
}
const anyone = new Uint8Array(32).fill(50)

function certificateFor(more: Partial<AgentCertificate> = {}, keys = known): string {
  const statement = {
    ...{
      version: 1 as const,
      vm: id,
      launch,
      generation: 1,
      provenBy: launchKey,
      nextBoot,
      serial: 5,
      confirmed: false,
    },
    ...{ agentDh: decodeBase64url(keys.agentDh), agentSign: decodeBase64url(keys.agentSign) },
    ...more,
  }
  return encodeBase64url(identity.withSigningSeed(seed => signCertificate(statement, seed)))
}
const waiting = (statement: string, more: Partial<Vm['waiting'][number]> = {}) => ({
  ...{
    statement,
    line: [],
    addresses: [],
    version: '1',
    connected: true,
    enrolledAt: '2026-01-01T00:00:00Z',
    protest: null,
  },
  ...more,
})
const first = statementFor(known)
const second = statementFor(here, { generation: 2 }, nextSeed)
/** a VM that was certified and has rebooted */
const rebooted = { certificate: certificateFor(), boots: [first, second], agent: here }
const kindOf = (more: Partial<Vm>) => judgeBoot(identity.signKey, sampleVm(identity.signKey, more), launchKey).kind

test('the boot that follows the certified one is known without the launch secret, and certified with its next key', async () => {
  const { connect, certificates } = await scene({ vm: rebooted, launchSecret: new Uint8Array(32) })
  const { contact, session } = await connect()
  expect(contact).toBe('known')
  const certified = openCertificate(decodeBase64url(certificates[0] as string), identity.signKey)
  expect(certified).toMatchObject({ generation: 2, provenBy: nextBoot, nextBoot, confirmed: false })
  expect(certified.serial).toBeGreaterThan(5)
  session.close()
})

test.each<[string, Partial<Vm>]>([
  ['that a key of nobody signed', { boots: [first, statementFor(here, {}, anyone)] }],
  ['that follow one which is left out', { boots: [first, statementFor(here, {}, anyone), second] }],
  ['by the launch key again', { boots: [first, statementFor(here)] }],
  ['of the first alone', { boots: [statementFor(here)], agent: here }],
])('boots %s do not lead to the VM, and nothing is sent', async (_, more) => {
  const { connect, certificates } = await scene({ vm: { ...rebooted, ...more } })
  await expect(connect()).rejects.toMatchObject({ code: 'boot-unproven' })
  expect(certificates).toEqual([])
})

test('a certificate that names another next key cuts off what the old one signed', () => {
  expect(kindOf({ ...rebooted, certificate: certificateFor({ nextBoot: signingPublicKey(anyone) }) })).toBe('unproven')
})

test.each<[string, Partial<Vm>, string]>([
  ['two boots by the launch key', { waiting: [waiting(statementFor(other))] }, 'contested'],
  ['two boots by one next-boot key', { waiting: [waiting(statementFor(other, {}, nextSeed))] }, 'contested'],
  [
    'two that wait by one next-boot key',
    {
      ...{ boots: [first], agent: { ...here, ...known } },
      waiting: [waiting(second), waiting(statementFor(other, {}, nextSeed))],
    },
    'contested',
  ],
  [
    'a boot that runs and disowns the next',
    {
      ...{ boots: [first], agent: { ...here, ...known } },
      waiting: [waiting(second, { protest: encodeBase64url(signProtest(decodeBase64url(second), agentSeed)) })],
    },
    'contested',
  ],
  [
    'a boot that came back and disowns the one in its place',
    { waiting: [waiting(first, { protest: encodeBase64url(signProtest(decodeBase64url(second), agentSeed)) })] },
    'contested',
  ],
  ['a boot by a key of nobody', { waiting: [waiting(statementFor(other, {}, anyone))] }, 'succeeded'],
  [
    'a protest that somebody else signed',
    { boots: [first], agent: { ...here, ...known }, waiting: [waiting(second, { protest: 'A'.repeat(86) })] },
    'certified',
  ],
  ['the same boot, shown as if it were another', { waiting: [waiting(second)] }, 'succeeded'],
])('%s: the VM is judged by signatures, so that no broker makes up a contest', (_, more, kind) => {
  expect(kindOf({ ...rebooted, ...more })).toBe(kind)
})

test('what the owner has decided about contests nothing any more', () => {
  const certificate = certificateFor({ confirmed: true })
  expect(kindOf({ ...rebooted, certificate, waiting: [waiting(statementFor(other))] })).toBe('succeeded')
})

test('an older certificate than this device knows opens nothing, nor does none', async () => {
  for (const certificate of [certificateFor({ serial: 4 }), null]) {
    const { api, host, vm } = await scene({ vm: { ...rebooted, certificate } })
    await api.knownVms.write(id, { launch, serial: 5 })
    await expect(connectVm(api, identity, host, vm)).rejects.toMatchObject({ code: 'certificate-invalid' })
    endScene()
  }
})

test('a contested VM is sent nothing until its owner chose by the words of a boot', async () => {
  const { api, host, vm, certificates, connect } = await scene({
    vm: { ...rebooted, waiting: [waiting(statementFor(other, {}, nextSeed))] },
  })
  await expect(connect()).rejects.toMatchObject({ code: 'boot-contested' })
  const candidates = candidatesOf(nobleSuite, vm)
  expect(candidates.map(({ current }) => current)).toEqual([true, false])
  const [chosen, ...others] = matching(candidates, candidates[0]?.words ?? '')
  expect(others).toEqual([])
  expect(matching(candidates, candidates[0]?.words.split(' ')[0] ?? '')).toEqual([])
  if (!chosen) throw new Error('none matches')
  await confirmBoot({ broker: api, identity, host }, vm, chosen)
  const certified = openCertificate(decodeBase64url(certificates[0] as string), identity.signKey)
  expect(certified).toMatchObject({ confirmed: true, provenBy: nextBoot, agentSign })
})
