/**
 * The plan of a broker's network: names, addresses and user ids that follow from the broker's key, so that two brokers of one
 * host do not meet, and from a VM's slot, a number that the VM keeps for life.
 */
import { createHash } from 'node:crypto'
import { MortarError } from '../../protocol/core/errors.ts'

/** port of the agent listener at the network's own address: all that a VM can reach */
export const AGENT_PORT = 7767
/** as QEMU's user networking shows the host's loopback and the guest's own address to a guest */
export const USER_NETWORK = { host: '10.0.2.2', guest: '10.0.2.15/24' } as const

const CANDIDATES = 2_048
const SLOTS = 4_096
const FIRST_SLOT = 2
/** user ids from here to 2^31 belong to nobody (systemd, Users, Groups, UIDs and GIDs) */
const FIRST_UID = 1_879_048_192
const DEFAULT_BITS = 20

/** An IPv4 network: its first address as a number, and how many bits of an address name it. */
export interface Subnet {
  readonly first: number
  readonly bits: number
}

export interface NetworkPlan {
  /** of bridge, tables of filters, and libvirt's network and filter: at most 15 characters, as interfaces have */
  readonly name: string
  readonly subnet: Subnet
  /** the broker's own address on the bridge */
  readonly address: string
  readonly macAddress: string
  /** user ids that QEMU has under user networking: the first, and how many */
  readonly firstUid: number
  readonly uids: number
}

/** `brokerId`: the broker's Ed25519 key; `subnet`: the configured one. */
export function planNetwork(brokerId: Uint8Array, subnet?: Subnet): NetworkPlan {
  const digest = createHash('sha256').update('mortar network').update(brokerId).digest()
  const candidate = digest.readUInt32BE(4) % CANDIDATES
  // 10.128.0.0/9, cut into pieces of 4096 addresses
  const own = subnet ?? { first: ((10 << 24) | (1 << 23) | (candidate * SLOTS)) >>> 0, bits: DEFAULT_BITS }
  const address = own.first + 1
  return {
    name: `mortar-${digest.toString('hex', 0, 4)}`,
    subnet: own,
    address: formatAddress(address),
    macAddress: macOf(address),
    firstUid: FIRST_UID + candidate * SLOTS,
    uids: SLOTS,
  }
}

/** What a VM has by its slot. */
export function placeOf(plan: NetworkPlan, slot: number) {
  const address = plan.subnet.first + slot
  return { address: formatAddress(address), macAddress: macOf(address), uid: plan.firstUid + slot }
}

/** The slot of an address of the network; undefined for any other. */
export function slotOf({ subnet }: NetworkPlan, address: string): number | undefined {
  const slot = parseAddress(address) - subnet.first
  return slot >= FIRST_SLOT && slot < lastSlot(subnet) ? slot : undefined
}

/** The lowest slot that nobody has. Fails with limit-exceeded. */
export function freeSlot({ subnet }: NetworkPlan, taken: ReadonlyMap<number, string>): number {
  for (let slot = FIRST_SLOT; slot < lastSlot(subnet); slot++) if (!taken.has(slot)) return slot
  throw new MortarError('limit-exceeded', `the network ${formatSubnet({ subnet })} has no address left for a VM`)
}

/** The broadcast address is nobody's. */
const lastSlot = ({ bits }: Subnet) => 2 ** (32 - bits) - 1

/** ADDRESS/BITS; undefined unless it is an IPv4 network of 16 to 28 bits, told by its first address. */
export function parseSubnet(textual: string): Subnet | undefined {
  const [, address = '', bits] = /^(\d+\.\d+\.\d+\.\d+)\/(\d\d)$/.exec(textual) ?? []
  const subnet = { first: parseAddress(address), bits: Number(bits) }
  if (!(subnet.bits >= DEFAULT_BITS && subnet.bits <= 28) || Number.isNaN(subnet.first)) return undefined
  return subnet.first % 2 ** (32 - subnet.bits) === 0 ? subnet : undefined
}

export const formatSubnet = ({ subnet }: Pick<NetworkPlan, 'subnet'>) => `${formatAddress(subnet.first)}/${subnet.bits}`

/** A number for an IPv4 address; an IPv4 address within IPv6, as sockets show it, counts as well. NaN for all else. */
function parseAddress(textual: string): number {
  const parts = textual.replace(/^::ffff:/, '').split('.')
  if (parts.length !== 4 || !parts.every(part => /^\d{1,3}$/.test(part) && Number(part) < 256)) return Number.NaN
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0)
}

const bytesOf = (address: number) => [24, 16, 8, 0].map(shift => (address >>> shift) & 255)
const formatAddress = (address: number) => bytesOf(address).join('.')
/** locally administered, and unique as the address is */
const macOf = (address: number) =>
  ['02', '6d', ...bytesOf(address).map(byte => byte.toString(16).padStart(2, '0'))].join(':')
