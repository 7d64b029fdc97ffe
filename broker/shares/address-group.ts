/** Who counts as one caller by an IP address: an IPv4 address, or the 64 bits of an IPv6 network, which is what one site has at least. SPEC §3 */

const GROUPS = 8
const NETWORK_GROUPS = 4
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** `address`: as Node names the other end of a socket; undefined once that is gone. */
export function addressGroup(address: string | undefined): string {
  const [plain = ''] = (address ?? 'unknown').split('%')
  if (!plain.includes(':')) return plain
  const [, mapped] = MAPPED.exec(plain) ?? []
  if (mapped !== undefined) return mapped
  const [first = [], last = []] = plain.split('::').map(part => part.split(':').filter(group => group !== ''))
  const zeros = Array<string>(Math.max(0, GROUPS - first.length - last.length)).fill('0')
  return `${[...first, ...zeros, ...last].slice(0, NETWORK_GROUPS).join(':')}::/64`
}
