/** Where the guest's memory may be swapped out to. */
import { readFileSync } from 'node:fs'

/** True when memory may reach a disk; compressed memory (zram) is memory. `swaps`: text of /proc/swaps. */
export function hasSwapOnDisk(swaps = readFileSync('/proc/swaps', 'utf8')): boolean {
  const devices = swaps.trim().split('\n').slice(1)
  return devices.some(line => !line.startsWith('/dev/zram'))
}
