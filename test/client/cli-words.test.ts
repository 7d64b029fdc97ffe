/** `mortar` says that something is done on the word of who did it: of drives, on the VM's, whatever the broker says. */
import { beforeEach, expect, test } from 'vitest'
import type { Drive } from '../../protocol/control/api.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { agent, mortar } from './cli-rig.ts'

const id = '44444444-4444-4444-8444-444444444444'
const hidden = driveSerial('55555555-5555-4555-8555-555555555555')
const drive = (attachedTo: string | null): Drive => ({
  id,
  name: 'data',
  sizeBytes: 1,
  owner: encodeBase64url(new Uint8Array(32)),
  note: '',
  attachedTo,
  // the broker's word for it, which nobody goes by
  serial: 'ab'.repeat(10),
  createdAt: '2026-01-01T00:00:00Z',
})
const open = (serial = driveSerial(id)) => ({ serial, state: 'mounted' as 'mounted' | 'locked' })
const json = async (...args: string[]) => {
  const { code, stdout, stderr } = await mortar([...args, '--json'])
  return { code, ...JSON.parse(code === 0 ? stdout : (stderr.trim().split('\n').at(-1) ?? '')) }
}
let vm = ''

beforeEach(async () => {
  if (vm === '') vm = (await json('vm', 'create', 'first', '--brick', 'debian-12')).vm.id
  agent.show({ state: 'ready', drives: [] })
  Object.assign(agent, { devices: [open()], drives: [drive(vm)], busy: false, onDetach: () => {}, away: false })
  agent.asked.splice(0)
})

test('vm stop locks every drive that the VM has open, those too that the broker does not show', async () => {
  agent.devices = [open(), open(hidden), { serial: 'cd'.repeat(10), state: 'locked' }]
  const told = await json('vm', 'stop', 'first', '--yes')
  expect(told).toMatchObject({ code: 0, word: 'broker', drives: { word: 'vm', locked: ['data', hidden] } })
  expect(agent.devices.map(({ state }) => state)).toEqual(['locked', 'locked', 'locked'])
})

test('vm stop of a VM with a drive in use stops nothing, unless it is forced, which is said', async () => {
  agent.busy = true
  expect(await json('vm', 'stop', 'first', '--yes')).toMatchObject({ code: 6, error: { code: 'drive-busy' } })
  expect(agent.asked).not.toContain(`POST /v1/vms/${vm}/stop`)
  const forced = await json('vm', 'stop', 'first', '--yes', '--force')
  expect(forced).toMatchObject({ code: 0, drives: { word: null, locked: null } })
})

test.each([['stop'], ['delete']])('vm %s does nothing without --yes where nobody can be asked', async verb => {
  expect(await json('vm', verb, 'first')).toMatchObject({ code: 2, error: { code: 'usage' } })
  const plain = await mortar(['vm', verb, 'first'])
  expect([plain.code, plain.stderr]).toEqual([2, expect.stringContaining('give --yes if you mean it')])
  expect(agent.asked.filter(asked => !asked.startsWith('GET'))).toEqual([])
})

test('vm delete of a VM that the broker says is off names the broker as the one who says so', async () => {
  agent.show({ state: 'stopped' })
  const { stdout, code } = await mortar(['vm', 'delete', 'first', '--yes'])
  expect([code, stdout]).toEqual([0, expect.stringContaining('no drive is open in first is the broker’s word')])
  expect(stdout).toMatch(/^The broker says that it deleted first\./)
})

test('drive detach is done when the VM says that the drive is locked and gone', async () => {
  agent.onDetach = () => {
    agent.devices = []
  }
  expect(await json('drive', 'detach', 'data')).toMatchObject({ code: 0, word: 'vm', drives: { locked: ['data'] } })
})

test('drive detach that the VM does not confirm is told as not known to be done', async () => {
  const told = await json('drive', 'detach', 'data')
  expect(told).toMatchObject({
    code: 7,
    error: { code: 'unconfirmed', known: { drivesLocked: true, detachedInVm: false } },
  })
  expect(agent.devices[0]?.state).toBe('locked')
})

test('a drive is locked in the VM that a person names, though the broker says that it is attached to none', async () => {
  agent.drives = [drive(null)]
  expect(await json('drive', 'lock', 'data')).toMatchObject({ code: 6, error: { code: 'drive-detached' } })
  expect(agent.devices[0]?.state).toBe('mounted')
  expect(await json('drive', 'lock', 'data', 'first')).toMatchObject({ code: 0, word: 'vm' })
  expect(agent.devices[0]?.state).toBe('locked')
})

test('drive detach names the broker where only the broker says that nothing is attached, and asks a VM that is named', async () => {
  agent.drives = [drive(null)]
  expect(await json('drive', 'detach', 'data')).toMatchObject({ code: 0, word: 'broker' })
  expect(await json('drive', 'detach', 'data', 'first')).toMatchObject({ code: 7, error: { code: 'unconfirmed' } })
  expect(agent.devices[0]?.state).toBe('locked')
})

test('drive delete asks first, and names who says that it is deleted', async () => {
  agent.drives = [drive(null)]
  expect(await json('drive', 'delete', 'data')).toMatchObject({ code: 2, error: { code: 'usage' } })
  expect((await mortar(['drive', 'delete', 'data', '--yes'])).stdout).toBe('The broker says that it deleted data.\n')
})
