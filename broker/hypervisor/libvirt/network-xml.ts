/** The XML of a network without a way out, and of the filter that each port of it has. */
import { createHash } from 'node:crypto'
import type { NetworkDefinition } from '../driver.ts'
import { escapeXml } from './xml.ts'

/** The bridge is the caller's: libvirt starts no name server, no DHCP and no rules of its own for it. */
export function networkXml({ name }: NetworkDefinition): string {
  return `<network>
  <name>${escapeXml(name)}</name>
  <uuid>${uuidOf(name, 'network')}</uuid>
  <forward mode='bridge'/>
  <bridge name='${escapeXml(name)}'/>
  <port isolated='yes'/>
</network>`
}

/** Whether libvirt's own text of a network says what networkXml() does. */
export function isNetwork({ name }: NetworkDefinition, xml: string): boolean {
  const holds = (text: string) => xml.includes(text)
  return (
    holds("<forward mode='bridge'/>") && holds(`<bridge name='${escapeXml(name)}'/>`) && holds("<port isolated='yes'/>")
  )
}

/**
 * The filter of a port, by the frame: from the VM's own addresses to the agent listener, ARP and answers, and nothing else in
 * either direction. libvirt puts the VM's addresses for $MAC and $IP.
 */
export function filterXml(definition: NetworkDefinition): string {
  const name = escapeXml(definition.name)
  const [address, mac] = [escapeXml(definition.address), escapeXml(definition.macAddress)]
  const accept = (direction: 'in' | 'out', match: string) =>
    `<rule action='accept' direction='${direction}' priority='100'>${match}</rule>`
  const port = definition.agentPort
  return `<filter name='${name}' chain='root'>
  <uuid>${uuidOf(name, 'filter')}</uuid>
  ${accept('out', `<arp srcmacaddr='$MAC' arpsrcmacaddr='$MAC' arpsrcipaddr='$IP' arpdstipaddr='${address}'/>`)}
  ${accept('out', `<ip srcmacaddr='$MAC' srcipaddr='$IP' dstipaddr='${address}' protocol='tcp' dstportstart='${port}'/>`)}
  ${accept('in', `<arp srcmacaddr='${mac}' arpsrcmacaddr='${mac}' arpsrcipaddr='${address}' arpdstipaddr='$IP'/>`)}
  ${accept('in', `<ip srcmacaddr='${mac}' srcipaddr='${address}' dstipaddr='$IP' protocol='tcp' srcportstart='${port}'/>`)}
  <rule action='drop' direction='inout' priority='1000'/>
</filter>`
}

/** The same at each call, so that libvirt takes a definition for the one it has. */
function uuidOf(name: string, kind: 'network' | 'filter'): string {
  const hex = createHash('sha256').update(`mortar ${kind} ${name}`).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
