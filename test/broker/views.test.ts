/** What the holder of a grant is shown of a VM: a member as its right says, addresses nowhere without `info`. SPEC §3.3 */
import { expect, test } from 'vitest'
import { granted } from '../../broker/auth/views.ts'
import type { Vm } from '../../protocol/control/api.ts'

const ADDRESS = '10.9.8.7'
const boot = { addresses: [ADDRESS], version: '1', connected: true, enrolledAt: '2026-01-01T00:00:00Z' }
const vm: Vm = {
  id: crypto.randomUUID(),
  name: 'lab',
  state: 'enrolled',
  revision: 1,
  owner: 'owner',
  brick: 'debian-12',
  brickSha256: '',
  launch: crypto.randomUUID(),
  createdAt: '2026-01-01T00:00:00Z',
  memoryMiB: 512,
  vcpus: 1,
  failure: { stage: 'boot', reason: 'none', consoleTail: 'what the guest wrote' },
  agent: { ...boot, generation: 1, agentDh: '', agentSign: '' },
  certificate: null,
  formerCertificate: null,
  boots: [],
  waiting: [{ ...boot, statement: '', line: [], protest: null }],
  drives: ['shown', 'hidden'],
  grants: [],
  events: [{ at: '2026-01-01T00:00:00Z', state: 'booting', cause: 'launched' }],
}

test.each([
  [[], null, { addresses: false, failure: false, drives: [] }],
  [['info'], null, { addresses: true, failure: false, drives: [] }],
  [['power'], null, { addresses: false, failure: true, drives: [] }],
  [['drives'], ['shown'], { addresses: false, failure: false, drives: ['shown'] }],
  [['exec', 'terminal', 'ssh', 'users'], null, { addresses: false, failure: false, drives: [] }],
] as const)('a grant of %j shows no more', (permissions, drives, shows) => {
  const view = granted(vm, { permissions, drives })
  const text = JSON.stringify(view)
  expect(text.includes(ADDRESS)).toBe(shows.addresses)
  expect(view.waiting).toHaveLength(1)
  expect(view.failure !== null).toBe(shows.failure)
  expect(text).not.toContain('what the guest wrote')
  expect(view.drives).toEqual(shows.drives)
  expect(view.events).toEqual([])
})
