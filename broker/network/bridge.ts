/** The bridge that VMs are plugged into: no spanning tree, no multicast, no IPv6, and an address of its own. */
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { MortarError } from '../../protocol/core/errors.ts'
import { z } from '../../protocol/core/schema.ts'
import { runCommand } from './host-command.ts'
import { formatSubnet, type NetworkPlan } from './plan.ts'

/** what the host does at this interface: no IPv6, no answer for other addresses of the host, nothing passed on */
const SETTINGS = {
  'ipv6/conf/NAME/disable_ipv6': '1',
  'ipv4/conf/NAME/arp_ignore': '1',
  'ipv4/conf/NAME/forwarding': '0',
  'ipv4/conf/NAME/route_localnet': '0',
  'ipv4/conf/NAME/accept_redirects': '0',
  'ipv4/conf/NAME/send_redirects': '0',
} as const

const linksSchema = z.array(
  z.looseObject({
    ifname: z.string(),
    linkinfo: z.looseObject({ info_kind: z.string().optional() }).optional(),
    addr_info: z.array(z.looseObject({ local: z.string().optional(), prefixlen: z.int().optional() })).optional(),
  }),
)
const routesSchema = z.array(z.looseObject({ dst: z.string(), dev: z.string().optional() }))
type Link = z.output<typeof linksSchema>[number]

/** Makes the bridge, or mends it where something is missing. Fails with network-unusable. */
export async function makeBridge(plan: NetworkPlan): Promise<void> {
  const { name, address, macAddress, subnet } = plan
  const links = await listLinks()
  const found = links.find(({ ifname }) => ifname === name)
  if (found && found.linkinfo?.info_kind !== 'bridge') throw unusable(`${name} is there and is not a bridge`)
  if (!found) {
    await requireFree(plan)
    await runCommand('ip', [
      'link',
      'add',
      name,
      'address',
      macAddress,
      'type',
      'bridge',
      'stp_state',
      '0',
      'mcast_snooping',
      '0',
      'forward_delay',
      '0',
    ])
  }
  for (const [path, value] of Object.entries(SETTINGS)) await set(path.replace('NAME', name), value)
  const wanted = `${address}/${subnet.bits}`
  for (const { local, prefixlen } of addressesOf(found)) {
    if (`${local}/${prefixlen}` === wanted) continue
    throw unusable(
      `${name} has the address ${local}/${prefixlen}, not ${wanted}: remove it while no VM runs (ip link delete ${name})`,
    )
  }
  if (addressesOf(found).length === 0) await runCommand('ip', ['address', 'add', wanted, 'dev', name])
  await runCommand('ip', ['link', 'set', name, 'up'])
}

/** Why the bridge is not as it was made: gone, or with a port through which VMs could reach each other; undefined if it is. */
export function faultOfBridge({ name }: NetworkPlan): string | undefined {
  try {
    for (const port of readdirSync(`/sys/class/net/${name}/brif`)) {
      const isolated = readFileSync(`/sys/class/net/${name}/brif/${port}/isolated`, 'utf8').trim()
      if (isolated !== '1') return `its port ${port} is not isolated`
    }
    return undefined
  } catch (cause) {
    // a VM that ends takes its port along
    return (cause as NodeJS.ErrnoException).path?.includes('/brif/') ? undefined : 'its bridge is gone'
  }
}

/** Removes the bridge, if it is there. */
export async function removeBridge(name: string): Promise<void> {
  if ((await listLinks()).some(({ ifname }) => ifname === name)) await runCommand('ip', ['link', 'delete', name])
}

async function listLinks(): Promise<Link[]> {
  // with details, without counters
  return linksSchema.parse(JSON.parse(await runCommand('ip', ['-d', '-j', 'address', 'show'])))
}

const addressesOf = (link: Link | undefined) =>
  (link?.addr_info ?? []).filter(({ local, prefixlen }) => local?.includes('.') && prefixlen !== undefined)

/** Fails when the host reaches addresses of the network by another way, which the bridge would cut off. */
async function requireFree(plan: NetworkPlan): Promise<void> {
  const { first, bits } = plan.subnet
  const routes = routesSchema.parse(JSON.parse(await runCommand('ip', ['-4', '-j', 'route', 'show', 'table', 'main'])))
  for (const { dst, dev = 'nowhere' } of routes) {
    const [address = '', prefix = '32'] = dst.split('/')
    const other = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
    const size = 2 ** (32 - Math.min(bits, Number(prefix)))
    // NaN, as of "default", meets nothing
    if (Math.floor(other / size) !== Math.floor(first / size)) continue
    throw unusable(`the host reaches ${dst} by ${dev}, which meets ${formatSubnet(plan)}: set subnet to a free one`)
  }
}

async function set(path: string, value: string): Promise<void> {
  try {
    await writeFile(`/proc/sys/net/${path}`, value)
  } catch (cause) {
    // a host without IPv6 has no such setting
    if (path.startsWith('ipv6/') && (cause as NodeJS.ErrnoException).code === 'ENOENT') return
    throw unusable(`net/${path} cannot be set: ${(cause as Error).message}`)
  }
}

const unusable = (detail: string) => new MortarError('network-unusable', detail)
