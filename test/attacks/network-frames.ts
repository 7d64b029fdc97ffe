/** Ethernet frames that a guest should not get through its port, as hex: forged addresses, foreign protocols, neighbours. */

export interface Ends {
  readonly mac: string
  readonly ip: string
}

const BROADCAST = 'ff:ff:ff:ff:ff:ff'
const macHex = (mac: string) => mac.replaceAll(':', '')
const bytesOfIp = (ip: string) => ip.split('.').map(Number)
const hex = (bytes: readonly number[]) => Buffer.from(bytes).toString('hex')
const ipHex = (ip: string) => hex(bytesOfIp(ip))
const ethernet = (from: string, to: string, type: string, payload: string) =>
  `${macHex(to)}${macHex(from)}${type}${payload}`.padEnd(120, '0')

/** An ARP packet, whoever sends it. `operation`: 1 asks, 2 answers. */
export function arp(frameFrom: string, to: string, operation: 1 | 2, sender: Ends, target: Ends): string {
  const addresses = `${macHex(sender.mac)}${ipHex(sender.ip)}${macHex(target.mac)}${ipHex(target.ip)}`
  return ethernet(frameFrom, to, '0806', `000108000604000${operation}${addresses}`)
}

/** An IPv4 packet: TCP's first, or UDP with what is said. `fragment`: the field of flags and offset. */
export function ipv4(
  [fromMac, fromIp]: readonly [string, string],
  [toMac, toIp]: readonly [string, string],
  what: { tcp: number } | { udp: number; says: string },
  fragment = 0,
): string {
  const tcp = 'tcp' in what
  const port = tcp ? what.tcp : what.udp
  const ports = hex([0x9c, 0x40, port >> 8, port & 255])
  const says = tcp ? '' : Buffer.from(what.says).toString('hex')
  const udpLength = 8 + says.length / 2
  const body = tcp
    ? `${ports}00000001000000005002faf000000000`
    : `${ports}${hex([udpLength >> 8, udpLength & 255])}0000${says}`
  const length = 20 + body.length / 2
  const header = [0x45, 0, length >> 8, length & 255, 0, 7, fragment >> 8, fragment & 255, 64, tcp ? 6 : 17, 0, 0]
  const whole = [...header, ...bytesOfIp(fromIp), ...bytesOfIp(toIp)]
  let sum = 0
  for (let index = 0; index < 20; index += 2) sum += ((whole[index] ?? 0) << 8) | (whole[index + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  whole[10] = (~sum >> 8) & 255
  whole[11] = ~sum & 255
  return ethernet(fromMac, toMac, '0800', hex(whole) + body)
}

/** What a guest could say that is neither its own ARP nor its own TCP to the agent listener. */
export function forgedFrames(
  own: Ends,
  neighbour: Ends,
  host: Ends,
  agentPort: number,
): Readonly<Record<string, string>> {
  const toHost = [host.mac, host.ip] as const
  const me = [own.mac, own.ip] as const
  const unknown = '02:6d:66:66:66:66'
  const nobody = { mac: '00:00:00:00:00:00', ip: host.ip }
  return {
    'IP address of the neighbour': ipv4([own.mac, neighbour.ip], toHost, { tcp: agentPort }),
    'IP address of the host': ipv4([own.mac, host.ip], toHost, { tcp: agentPort }),
    'IP address of the loopback': ipv4([own.mac, '127.0.0.1'], toHost, { tcp: agentPort }),
    'MAC address of the neighbour': ipv4([neighbour.mac, own.ip], toHost, { tcp: agentPort }),
    'MAC address of nobody': ipv4([unknown, own.ip], toHost, { tcp: agentPort }),
    'both addresses of the neighbour': ipv4([neighbour.mac, neighbour.ip], toHost, { tcp: agentPort }),
    'another port': ipv4(me, toHost, { tcp: 22 }),
    'the loopback as target': ipv4(me, [host.mac, '127.0.0.1'], { tcp: agentPort }),
    'UDP to the agent port': ipv4(me, toHost, { udp: agentPort, says: 'x' }),
    'names over UDP': ipv4(me, toHost, { udp: 53, says: 'x' }),
    'a later fragment': ipv4(me, toHost, { tcp: agentPort }, 0x0010),
    'DHCP to all': ipv4([own.mac, '0.0.0.0'], [BROADCAST, '255.255.255.255'], { udp: 67, says: 'x' }),
    'multicast names': ipv4(me, ['01:00:5e:00:00:fb', '224.0.0.251'], { udp: 5353, says: 'x' }),
    'UDP to the neighbour': ipv4(me, [neighbour.mac, neighbour.ip], { udp: 9, says: 'x' }),
    'UDP to the neighbour by way of the host': ipv4(me, [host.mac, neighbour.ip], { udp: 9, says: 'x' }),
    'ARP that asks for the neighbour': arp(own.mac, BROADCAST, 1, own, { ...nobody, ip: neighbour.ip }),
    'ARP that answers as the host': arp(
      own.mac,
      BROADCAST,
      2,
      { mac: own.mac, ip: host.ip },
      { ...nobody, ip: host.ip },
    ),
    'ARP that answers as the neighbour': arp(own.mac, host.mac, 2, { mac: own.mac, ip: neighbour.ip }, host),
    'ARP that answers to the neighbour': arp(own.mac, neighbour.mac, 2, { mac: own.mac, ip: host.ip }, neighbour),
    'IPv6 neighbour discovery': ethernet(
      own.mac,
      '33:33:ff:00:00:01',
      '86dd',
      `6000000000183aff${'fe80'.padEnd(32, '0')}`,
    ),
    'an IPv6 router': ethernet(own.mac, '33:33:00:00:00:01', '86dd', `6000000000103aff${'fe80'.padEnd(32, '0')}ff02`),
    'a tag of a VLAN': ethernet(own.mac, host.mac, '8100', `00010800${ipv4(me, toHost, { tcp: agentPort }).slice(28)}`),
    'spanning tree': ethernet(own.mac, '01:80:c2:00:00:00', '0026', '424203000002'),
    'a protocol nobody knows': ethernet(own.mac, neighbour.mac, '88b5', '6d6f72746172'),
  }
}
