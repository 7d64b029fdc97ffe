/** Names of Noise protocols that are none of those we run. Noise revision 34, sections 8 and 9 */
import { describe, expect, test } from 'vitest'
import { findPattern, parseProtocolName } from '../../protocol/channel/patterns.ts'

describe('a name is refused, and named in the refusal', () => {
  test.each([
    'noise_XK_25519_ChaChaPoly_SHA256',
    'Noise_XK_448_ChaChaPoly_SHA256',
    'Noise_XK_25519_ChaChaPoly',
    'Noise_XK_25519_ChaCha_SHA256',
    'Noise_XK_25519_ChaChaPoly_SHA3',
    'Noise_XK_25519_ChaChaPoly_toString',
    'Noise_XK_25519_ChaChaPoly_SHA256_',
    'Noise',
    '',
  ])('of a protocol: %s', name => {
    expect(() => parseProtocolName(name)).toThrow(new RangeError(`${name} is not a protocol we run`))
  })

  test.each(['', 'QQ', 'aXK', 'XKfoo', 'XKpsk', 'XKpsk10', 'XK1psk0+'])('of a pattern: %s', name => {
    expect(() => findPattern(name)).toThrow(new RangeError(`no Noise pattern is called ${name}`))
  })

  test('of a message that a pattern does not have', () => {
    expect(findPattern('XKpsk3').pskCount).toBe(1)
    expect(() => findPattern('XKpsk4')).toThrow(new RangeError('XKpsk4 has no message 4'))
  })
})
