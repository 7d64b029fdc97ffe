/** What agent and broker say to each other, and what the owner signs of a boot: the edges of their shapes. SPEC §2.4, §3.2 */
import { expect, test } from 'vitest'
import { openBoot, signBoot } from '../../protocol/control/boot.ts'
import { openCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { readControl, toAgentSchema, toBrokerSchema } from '../../protocol/control/enrolment.ts'
import { sealStatement, signingPublicKey } from '../../protocol/core/signing.ts'
import { facts } from '../support/session-pair.ts'

const seed = new Uint8Array(32).fill(1)
const key = new Uint8Array(32).fill(2)
const LAST_GENERATION = 2 ** 31 - 1
const refused = expect.objectContaining({ code: 'protocol-violation' })

const certificate = (generation: number) => ({
  version: 1 as const,
  vm: facts.vm,
  launch: facts.launch,
  generation,
  agentDh: key,
  agentSign: key,
  provenBy: key,
  nextBoot: key,
  serial: 1,
  confirmed: false,
})

test('a generation lies below 2^31, in certificate and boot statement', () => {
  const owner = signingPublicKey(seed)
  const certified = (generation: number) =>
    openCertificate(sealStatement('mortar agent certificate v1', certificate(generation), seed), owner)
  expect(certified(LAST_GENERATION).generation).toBe(LAST_GENERATION)
  expect(() => certified(LAST_GENERATION + 1)).toThrow(expect.objectContaining({ code: 'certificate-invalid' }))
  expect(() => signCertificate(certificate(LAST_GENERATION + 1), seed)).toThrow()

  const { agentDh, agentSign, nextBoot, vm, launch } = certificate(1)
  const stated = (generation: number) =>
    signBoot({ version: 1, vm, launch, generation, boot: vm, agentDh, agentSign, nextBoot }, seed)
  expect(openBoot(stated(LAST_GENERATION)).generation).toBe(LAST_GENERATION)
  expect(() => stated(LAST_GENERATION + 1)).toThrow()
})

test.each([
  ['the same value twice', '{"type":"refused","code":"denied","code":"denied"}'],
  ['another value first', '{"type":"refused","code":"denied","code":"timeout"}'],
  ['two types', '{"type":"offer","type":"refused","code":"denied"}'],
  ['a name that is written in another way', '{"type":"refused","code":"denied","c\\u006fde":"denied"}'],
  ['strings that look like members', '{"type":"refused","code":"\\"a\\":","code":"\\\\"}'],
])('a control message with a repeated member is refused: %s', (_name, json) => {
  expect(() => readControl(toAgentSchema, json)).toThrow(refused)
})

test('members in any order, blanks between them, and colons in texts are no fault', () => {
  const read = (json: string) => readControl(toAgentSchema, json)
  expect(read('{ "code" : "denied",\n "type" : "refused" }')).toEqual({ type: 'refused', code: 'denied' })
  expect(read('{"type":"refused","code":"a\\":b\\\\:{c:"}')).toEqual({ type: 'refused', code: 'a":b\\:{c:' })
  expect(readControl(toBrokerSchema, '{"type":"ready"}')).toEqual({ type: 'ready' })
})

test.each(['', 'null', '1', '"ready"', '[]', '[{"type":"ready"}]', '{"type":"ready","more":1}', '{"type":"ready"'])(
  '%j is no control message',
  json => {
    expect(() => readControl(toBrokerSchema, json)).toThrow(refused)
  },
)
