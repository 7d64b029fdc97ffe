/** What the host may do with the memory of VMs, in which the keys of open drives are: swap it out in the clear, or merge it. */
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'

export interface HostMemory {
  /** none: there is none, or it stays in memory (zram); encrypted: all of it; clear: some of it, as far as can be told */
  readonly swap: 'none' | 'encrypted' | 'clear'
  /** whether equal pages of programs that allow it are kept once (KSM) */
  readonly merging: boolean
}

/** Looks at the host. `root`: where /proc and /sys are, for tests. */
export function hostMemory(root = '/'): HostMemory {
  const kinds = swapDevices(root).map(device => kindOf(root, device))
  const swap = kinds.includes('clear') ? 'clear' : kinds.includes('encrypted') ? 'encrypted' : 'none'
  return { swap, merging: readText(root, 'sys/kernel/mm/ksm/run') === '1' }
}

/** Lines for the operator: what is so, and what to do where it should not be. */
export function describeHostMemory({ swap, merging }: HostMemory, locksMemory: boolean): string[] {
  const swaps = {
    none: 'none on disk',
    encrypted: 'encrypted',
    clear: locksMemory
      ? 'in the clear; the memory of VMs is locked and does not go there'
      : 'in the clear: memory of VMs may be written there, with keys of open drives\n  → switch it off (swapoff -a) or encrypt it (crypttab: swap)',
  }
  return [
    `VM memory     ${locksMemory ? 'locked' : 'not locked: this host emulates, or lock_memory is false'}; not merged, not in core dumps`,
    `swap          ${swaps[swap]}`,
    `page merging  ${merging ? 'on, for programs that ask for it; VMs of this broker do not' : 'off'}`,
  ]
}

function swapDevices(root: string): string[] {
  const [, ...lines] = readText(root, 'proc/swaps').split('\n')
  return lines.flatMap(line => line.split(/\s+/)[0] || [])
}

/** A file of swap counts as clear: what is under its file system is not looked for. */
function kindOf(root: string, path: string): HostMemory['swap'] {
  let device: string
  try {
    device = basename(realpathSync(join(root, path)))
  } catch {
    return 'clear'
  }
  if (/^zram\d+$/.test(device)) {
    const backing = readText(root, `sys/block/${device}/backing_dev`)
    return backing === '' || backing === 'none' ? 'none' : 'clear'
  }
  return isEncrypted(root, device) ? 'encrypted' : 'clear'
}

/** A crypt target of the device mapper, or one that stands on such targets alone. */
function isEncrypted(root: string, device: string): boolean {
  if (readText(root, `sys/block/${device}/dm/uuid`).startsWith('CRYPT-')) return true
  let below: string[]
  try {
    below = readdirSync(join(root, 'sys/block', device, 'slaves'))
  } catch {
    return false
  }
  return below.length > 0 && below.every(each => isEncrypted(root, each))
}

function readText(root: string, path: string): string {
  try {
    return readFileSync(join(root, path), 'utf8').trim()
  } catch {
    return ''
  }
}
