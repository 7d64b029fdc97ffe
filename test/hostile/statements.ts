/** Signed statements to start from, and bent ones under a true signature. */
import { createPrivateKey, sign } from 'node:crypto'
import { encodeText } from '../../protocol/core/bytes.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import type { Random } from './random.ts'

export const id = '11111111-1111-4111-8111-111111111111'
export const key = new Uint8Array(32).fill(3)
/** not a chance one, so that a finding can be made again */
export const seed = new Uint8Array(32).fill(6)
export const owner = signingPublicKey(seed)

export const ticket = {
  version: 1 as const,
  vm: id,
  launch: id,
  owner,
  ownerDh: key,
  brick: key,
  broker: key,
  commitment: key,
  nonce: new Uint8Array(16),
  expires: 1_800_000_000,
}
export const certificate = {
  version: 1 as const,
  vm: id,
  launch: id,
  generation: 1,
  agentDh: key,
  agentSign: key,
  provenBy: key,
  nextBoot: key,
  serial: 1,
  confirmed: false,
}
export const boot = {
  version: 1 as const,
  vm: id,
  launch: id,
  generation: 1,
  boot: id,
  agentDh: key,
  agentSign: owner,
  nextBoot: key,
}
export const grant = {
  version: 1 as const,
  vm: id,
  grantee: key,
  granteeDh: key,
  role: 'user' as const,
  permissions: ['exec' as const],
  drives: [id],
  targets: [],
  expires: 1_800_000_000,
  serial: 1,
}

const JUNK = [
  null,
  '',
  -1,
  0,
  1.5,
  2 ** 31,
  [[[[[[[[1]]]]]]]],
  [],
  {},
  true,
  new Uint8Array(33),
  'x'.repeat(3_000),
  Number.MAX_SAFE_INTEGER,
]

/** before the 32 key bytes of an Ed25519 seed in PKCS #8 (RFC 8410) */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const signingKey = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' })

/** An envelope around any body, signed as only the owner could; by Node, which is quicker than the product's own. */
function signedBody(label: string, body: Uint8Array): Uint8Array {
  const signature = sign(null, Buffer.concat([encodeText(label), new Uint8Array(1), body]), signingKey)
  return encodeCbor({ body, key: owner, signature: new Uint8Array(signature) })
}

/** One input in two is a statement that is bent, in a member or in its bytes, and rightly signed: then its body is read. */
export function perhapsSigned(label: string, statement: object, input: Uint8Array, random: Random): Uint8Array {
  if (random.below(2) > 0) return input
  if (random.below(2) > 0) {
    const member = random.pick([...Object.keys(statement), 'stranger'])
    return signedBody(label, encodeCbor({ ...statement, [member]: random.pick(JUNK) }))
  }
  const body = encodeCbor(statement)
  for (let i = random.below(4); i > 0; i--) body[random.below(body.length)] = random.below(256)
  return signedBody(label, random.below(8) > 0 ? body : body.subarray(0, random.below(body.length)))
}
