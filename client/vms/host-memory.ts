/** What the broker says of the memory of its VMs, in a person's words. */
import type { BrokerInfo } from '../broker/api.ts'

/** One sentence: whether keys of open drives can reach a disk of the host, as far as the broker says. */
export function hostMemoryWords({ locked, swap }: BrokerInfo['hostMemory']): string {
  if (locked) return 'locked, so the host does not swap it'
  if (swap === 'clear') return 'not locked: the host may swap it to disk in the clear, with keys of open drives'
  return swap === 'encrypted' ? 'not locked; the swap of the host is encrypted' : 'not locked; the host has no swap'
}
