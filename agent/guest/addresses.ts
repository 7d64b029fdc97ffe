/** The guest's IP addresses as the kernel has them now. */
import { networkInterfaces } from 'node:os'
import { LIMITS } from '../../protocol/core/limits.ts'

/** Addresses of all interfaces but loopback, IPv4 before IPv6. */
export function addresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .filter(entry => !entry.internal)
    .sort((a, b) => a.family.localeCompare(b.family))
    .map(entry => entry.address)
    .slice(0, LIMITS.addresses)
}
