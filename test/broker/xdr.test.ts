/** XDR: the bytes of RFC 4506, and answers that are cut short or lie about lengths. */
import { expect, test } from 'vitest'
import { XdrReader, XdrWriter } from '../../broker/hypervisor/libvirt/xdr.ts'

const failure = expect.objectContaining({ code: 'libvirt-failed' })

test('writes what RFC 4506 says', () => {
  const bytes = new XdrWriter()
    .int(-2)
    .text('äb')
    .optionalText(null)
    .optionalText('x')
    .opaque(Buffer.from([1]))
    .bytes()
  expect(bytes.toString('hex')).toBe(
    'fffffffe' + '00000003c3a46200' + '00000000' + '000000010000000178000000' + '01000000',
  )
})

test('reads back what it wrote', () => {
  const written = new XdrWriter()
    .int(7)
    .text('')
    .text('four')
    .optionalText(null)
    .optionalText('déjà vu')
    .int(-1)
    .bytes()
  const reader = new XdrReader(written)
  expect([
    reader.int(),
    reader.text(),
    reader.text(),
    reader.optionalText(),
    reader.optionalText(),
    reader.int(),
  ]).toEqual([7, '', 'four', null, 'déjà vu', -1])
})

test('refuses every cut of an answer', () => {
  const whole = new XdrWriter().int(1).text('abcde').int(2).bytes()
  for (let length = 0; length < whole.length; length++) {
    const reader = new XdrReader(whole.subarray(0, length))
    expect(() => [reader.int(), reader.text(), reader.int()], `${length} bytes`).toThrow(failure)
  }
})

test.each([
  ['negative', 0xffffffff],
  ['beyond its bound', 5 * 2 ** 20],
  ['beyond the answer', 100],
])('refuses a text whose length is %s', (_, length) => {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt32BE(length)
  expect(() => new XdrReader(bytes).text()).toThrow(failure)
})
