/** The plan of a network: what follows from a broker's key and a VM's slot, and what libvirt is told of it. */

import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { filterXml, isNetwork, networkXml } from '../../broker/hypervisor/libvirt/network-xml.ts'
import { bindingWarning } from '../../broker/network/binding.ts'
import { isolatedRules, userRules } from '../../broker/network/packet-filter.ts'
import { formatSubnet, freeSlot, parseSubnet, placeOf, planNetwork, slotOf } from '../../broker/network/plan.ts'

const id = new Uint8Array(32).fill(7)
const plan = planNetwork(id)

test('the plan of a broker is always the same, and a name of it fits an interface', () => {
  expect(planNetwork(id)).toEqual(plan)
  expect(plan.name).toMatch(/^mortar-[0-9a-f]{8}$/)
  expect(plan.name.length).toBeLessThanOrEqual(15)
  expect(formatSubnet(plan)).toMatch(/^10\.(12[89]|1[3-9]\d|2\d\d)\.\d+\.0\/20$/)
  expect(plan.firstUid + plan.uids).toBeLessThanOrEqual(2 ** 31)
})

test('brokers have plans of their own', () => {
  const names = new Set(Array.from({ length: 200 }, () => planNetwork(new Uint8Array(randomBytes(32))).name))
  expect(names.size).toBe(200)
})

test('each slot has an address, a MAC address and a user of its own, and leads back to the slot', () => {
  const small = planNetwork(id, parseSubnet('10.200.16.0/24'))
  expect(small.address).toBe('10.200.16.1')
  expect(placeOf(small, 2)).toEqual({
    address: '10.200.16.2',
    macAddress: '02:6d:0a:c8:10:02',
    uid: small.firstUid + 2,
  })
  for (const slot of [2, 77, 254]) {
    expect(slotOf(small, placeOf(small, slot).address)).toBe(slot)
    expect(slotOf(small, `::ffff:${placeOf(small, slot).address}`)).toBe(slot)
  }
  for (const none of [
    '10.200.16.0',
    '10.200.16.1',
    '10.200.16.255',
    '10.200.17.2',
    '127.0.0.1',
    '::1',
    'x',
    '10.200.16',
  ])
    expect(slotOf(small, none), none).toBeUndefined()
})

test('the lowest free slot is given, and a full network says so', () => {
  const small = planNetwork(id, parseSubnet('10.200.16.0/28'))
  const taken = new Map<number, string>()
  expect(freeSlot(small, taken)).toBe(2)
  for (let slot = 2; slot < 15; slot++) taken.set(slot, 'vm')
  expect(() => freeSlot(small, taken)).toThrow(/no address left/)
  taken.delete(9)
  expect(freeSlot(small, taken)).toBe(9)
})

test.each(['10.0.0.0/8', '10.0.0.0/19', '10.0.0.1/24', '10.0.0.0/29', '10.0.0.0', '300.0.0.0/24', 'fd00::/24', ''])(
  'the network %j is not taken',
  textual => expect(parseSubnet(textual)).toBeUndefined(),
)

test('rules name the one way there is, and drop the rest', () => {
  const rules = isolatedRules(plan)
  expect(rules.match(/ drop\n/g)).toHaveLength(5)
  expect(rules).toContain(`ip daddr ${plan.address} tcp dport 7767 notrack accept`)
  expect(userRules(plan, 7000)).toMatch(
    /(meta skuid \d+-\d+) ip daddr 127\.0\.0\.1 tcp dport 7000 accept\n {4}\1 drop\n/,
  )
})

test('libvirt is told no way out, the same text each time, and a network that was changed is noticed', () => {
  const definition = { name: plan.name, address: plan.address, macAddress: plan.macAddress, agentPort: 7767 }
  expect(networkXml(definition)).toBe(networkXml(definition))
  expect(filterXml(definition)).toBe(filterXml(definition))
  const xml = networkXml(definition)
  expect(isNetwork(definition, xml)).toBe(true)
  for (const [from, to] of [
    ["mode='bridge'", "mode='nat'"],
    ["isolated='yes'", "isolated='no'"],
    [`bridge name='${plan.name}'`, "bridge name='virbr0'"],
  ] as const)
    expect(isNetwork(definition, xml.replace(from, to)), to).toBe(false)
  expect(filterXml(definition)).toMatch(/<rule action='drop' direction='inout' priority='1000'\/>\s*<\/filter>/)
})

test.each([
  ['as shipped', 'isolated', undefined, false],
  ['at the bridge’s own address', 'isolated', '10.128.0.1', false],
  ['behind something of the operator’s', 'isolated', '127.0.0.1', true],
  ['under user networking, which never tells', 'user', '127.0.0.1', false],
] as const)('%s the operator is told if VMs cannot be told apart by their addresses', (_where, network, host, told) => {
  const warning = bindingWarning({ network, agentListen: host && { host, port: 7767 } }, '10.128.0.1')
  expect(warning !== undefined).toBe(told)
})
