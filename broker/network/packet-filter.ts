/**
 * The packet filter of a broker's network: an nftables table of its own, made anew in one step, so that there is no moment
 * without it. Its rules come before all others of the host and before connection tracking.
 */
import { MortarError } from '../../protocol/core/errors.ts'
import { runCommand } from './host-command.ts'
import { AGENT_PORT, formatSubnet, type NetworkPlan } from './plan.ts'

/** connections that one VM may begin: per second, and at once */
const CONNECTIONS = { perSecond: 50, burst: 200 } as const

/** Rules for the bridge: from a VM to the agent listener and back, and nothing else in, out or through. */
export function isolatedRules(plan: NetworkPlan): string {
  const bridge = `"${plan.name}"`
  const reach = `ip saddr ${formatSubnet(plan)} ip daddr ${plan.address} tcp dport ${AGENT_PORT}`
  const answer = `ip saddr ${plan.address} ip daddr ${formatSubnet(plan)} tcp sport ${AGENT_PORT}`
  const { perSecond, burst } = CONNECTIONS
  return `
  set dialling {
    type ipv4_addr
    size 4096
    flags dynamic,timeout
    timeout 1m
  }
  chain from-vms {
    type filter hook prerouting priority -310; policy accept;
    iifname != ${bridge} accept
    ${reach} tcp flags & (syn | ack) == syn update @dialling { ip saddr limit rate over ${perSecond}/second burst ${burst} packets } drop
    ${reach} notrack accept
    drop
  }
  chain to-vms {
    type filter hook output priority -310; policy accept;
    oifname != ${bridge} accept
    ${answer} notrack accept
    drop
  }
  chain through {
    type filter hook forward priority -310; policy accept;
    iifname ${bridge} drop
    oifname ${bridge} drop
  }`
}

/**
 * Rules for the users that QEMU runs as under user networking: to the agent listener on the host's loopback, nowhere else. What
 * the host itself sends, such as the refusal of a connection, has no user, and no rule here matches it.
 */
export function userRules({ firstUid, uids }: NetworkPlan, agentPort: number): string {
  const users = `${firstUid}-${firstUid + uids - 1}`
  return `
  chain from-qemu {
    type filter hook output priority -310; policy accept;
    meta skuid ${users} ip daddr 127.0.0.1 tcp dport ${agentPort} accept
    meta skuid ${users} drop
  }`
}

export class PacketFilter {
  readonly #name: string
  #rules = ''
  /** as nft lists it, once it stands */
  #listed = ''

  /** `name`: of the table */
  constructor(name: string) {
    this.#name = name
  }

  /** Puts the rules in the place of those before. Fails with network-unusable. */
  async set(rules: string): Promise<void> {
    const table = `table inet ${this.#name}`
    await runCommand('nft', ['-f', '-'], `${table}\ndelete ${table}\n${table} {${rules}\n}\n`)
    this.#rules = rules
    this.#listed = await this.#list()
  }

  /** Whether it stands as it was set. */
  async stands(): Promise<boolean> {
    return this.#listed !== '' && (await this.#list().catch(() => '')) === this.#listed
  }

  /** Sets it again. */
  async mend(): Promise<void> {
    if (this.#rules === '') throw new MortarError('network-unusable', 'its filter was never set')
    await this.set(this.#rules)
  }

  async remove(): Promise<void> {
    const table = `table inet ${this.#name}`
    await runCommand('nft', ['-f', '-'], `${table}\ndelete ${table}\n`)
    this.#rules = ''
    this.#listed = ''
  }

  /** Without counters, and without the VMs that dialled just now. */
  #list(): Promise<string> {
    return runCommand('nft', ['-s', '-t', 'list', 'table', 'inet', this.#name])
  }
}
