/** What the host may do with the memory of VMs: swap in the clear told from swap that is none. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeHostMemory, hostMemory } from '../../broker/hypervisor/host-memory.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'mortar-host-memory-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
}
const swaps = (...devices: string[]) => {
  for (const device of devices) put(device, '')
  put(
    'proc/swaps',
    ['Filename Type Size Used Priority', ...devices.map(device => `/${device} x 1 0 -2`), ''].join('\n'),
  )
}

test('no swap, and swap that stays in memory, is none', () => {
  expect(hostMemory(root)).toEqual({ swap: 'none', merging: false })
  swaps('dev/zram0')
  put('sys/block/zram0/backing_dev', 'none\n')
  expect(hostMemory(root).swap).toBe('none')
  put('sys/block/zram0/backing_dev', '/dev/sda3\n')
  expect(hostMemory(root).swap).toBe('clear')
})

test('a crypt target is encrypted, and a volume on such targets; anything beside it makes it clear', () => {
  swaps('dev/dm-0')
  put('sys/block/dm-0/dm/uuid', 'CRYPT-PLAIN-swap\n')
  expect(hostMemory(root).swap).toBe('encrypted')
  swaps('dev/dm-1')
  put('sys/block/dm-1/dm/uuid', 'LVM-abc\n')
  mkdirSync(join(root, 'sys/block/dm-1/slaves'), { recursive: true })
  symlinkSync('../../dm-0', join(root, 'sys/block/dm-1/slaves/dm-0'))
  expect(hostMemory(root).swap).toBe('encrypted')
  symlinkSync('../../sda2', join(root, 'sys/block/dm-1/slaves/sda2'))
  expect(hostMemory(root).swap).toBe('clear')
  swaps('dev/dm-0', 'swapfile')
  expect(hostMemory(root).swap).toBe('clear')
})

test('the operator is told what to do about swap in the clear unless memory is locked', () => {
  const lines = (locks: boolean) => describeHostMemory({ swap: 'clear', merging: true }, locks).join('\n')
  expect(lines(false)).toContain('swapoff')
  expect(lines(true)).not.toContain('swapoff')
  expect(lines(true)).toContain('page merging  on')
})
