/** Whether the broker can tell VMs apart by the addresses that they dial from, as far as its configuration says. */
import type { Config } from '../config.ts'

/** What the operator is told where it cannot; undefined where it can. `bridge`: the bridge's address; undefined: not known. */
export function bindingWarning(
  { network, agentListen }: Pick<Config, 'network' | 'agentListen'>,
  bridge: string | undefined,
): string | undefined {
  if (network !== 'isolated' || !agentListen || agentListen.host === bridge) return undefined
  return `agents are taken at ${agentListen.host}, not at the bridge's own address: unless what stands there before the broker keeps the address of each VM, the broker does not see which VM dials, and neither refuses a VM that enrols as another whose launch secret it has, nor bounds the connections of each`
}
