/** Files that handle secrets keep them in buffers of protocol/core/secret.ts: V8 moves small arrays and leaves copies behind. */
import { expect, test } from 'vitest'
import { expectNone, lineAt, read } from './sources.ts'

/** what must not be in these files, and what is there instead */
const BANNED: readonly [pattern: RegExp, instead: string][] = [
  [/\bnew Uint8Array\((?:32|48|64|\w*(?:KEY|SEED|SECRET)_BYTES)\)/g, 'newSecret()'],
  [/(?<!takeSecret\()new Uint8Array\((?:createHmac|hkdfSync|randomBytes|diffieHellman|decapsulate)\b/g, 'takeSecret()'],
  [/\bUint8Array\.(?:of|from)\([^)]*(?:secret|seed|key)\b/gi, 'copySecret()'],
  [/(?<!\w)(?:secret|seed|key|shared)\.slice\(/g, 'copySecret()'],
]
const CONCAT: (typeof BANNED)[number] = [/(?<![.\w])concat\(/g, 'concatSecret()']

/** files whose arrays are secrets throughout */
const SECRET = [
  'protocol/channel/cipher-state.ts',
  'protocol/channel/derive.ts',
  'protocol/channel/noble-suite.ts',
  'protocol/channel/symmetric-state.ts',
  'protocol/native/suite.ts',
  'broker/vms/launcher-key.ts',
]
/** files that join public values too, as salts and what is sealed */
const PARTLY = [
  'agent/boot/boot-data.ts',
  'agent/boot/boot-keys.ts',
  'agent/handlers/drives.ts',
  'agent/guest/drives.ts',
  'agent/guest/luks.ts',
  'client/sessions/connect.ts',
  'client/drives/drives.ts',
  'client/identity/identity-file.ts',
  'client/identity/identity.ts',
  'client/vms/sealed-secret.ts',
  'client/vms/vm.ts',
  'protocol/channel/handshake.ts',
  'protocol/channel/secure-channel.ts',
  'protocol/mux/inbox.ts',
  'protocol/channel/seal-to-key.ts',
  'protocol/secret-offer.ts',
]

/** What of the banned is in a text: `line text: instead`. */
function bannedIn(text: string, rules: typeof BANNED): string[] {
  return rules.flatMap(([pattern, instead]) =>
    [...text.matchAll(pattern)].map(match => `${lineAt(text, match.index)} ${match[0]}: ${instead}`),
  )
}

test('no secret is put into an array that V8 may move', () => {
  const problems = [
    ...SECRET.flatMap(file => bannedIn(read(file), [...BANNED, CONCAT]).map(item => `${file}:${item}`)),
    ...PARTLY.flatMap(file => bannedIn(read(file), BANNED).map(item => `${file}:${item}`)),
  ]
  expectNone('use core/secret.ts', problems)
})

test('the rule finds what it is about', () => {
  const text = [
    'const message = concat(block, info)',
    'const key = new Uint8Array(32)',
    'new Uint8Array(KEY_BYTES)',
    'hmac: (key, message) => new Uint8Array(createHmac(digest, key).update(message).digest())',
    'key = new Uint8Array(hkdfSync(x))',
    'const copy = seed.slice(0)',
    'Buffer.concat([PREFIX, remote]), new Uint8Array(12), salt.slice(0, 8), concatSecret(a, b)',
  ].join('\n')
  const lines = bannedIn(text, [...BANNED, CONCAT]).map(item => Number.parseInt(item, 10))
  expect([...new Set(lines)].sort()).toEqual([1, 2, 3, 4, 5, 6])
})
