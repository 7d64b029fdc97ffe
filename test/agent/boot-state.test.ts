/** What a boot leaves for the next on the disk. SPEC §2.8 */
import { randomBytes } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { BootState } from '../../agent/boot/boot-state.ts'
import { openBoot, signBoot, verifyProtest } from '../../protocol/control/boot.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { facts } from '../support/session-pair.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-boot-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const launchSeed = new Uint8Array(32).fill(1)
const path = () => join(folder, 'boot')
const idOf = (boot: number) => `00000000-0000-4000-8000-00000000000${boot}`
const keysOf = (boot: number) => ({
  seed: new Uint8Array(32).fill(boot),
  keys: {
    dh: { publicKey: new Uint8Array(32).fill(boot) } as never,
    signPublicKey: signingPublicKey(new Uint8Array(32).fill(boot)),
  },
})
const open = (boot: number, keys = boot) =>
  BootState.open({
    stateDirectory: folder,
    boot: idOf(boot),
    ticket: facts,
    launchSeed,
    keys: keysOf(keys).keys,
    randomBytes: length => new Uint8Array(randomBytes(length)),
  })

test('the first boot is signed by the launch key, the next by the key that it left, and a restart changes nothing', () => {
  const first = open(1)
  expect(openBoot(first.statement)).toMatchObject({
    generation: 1,
    provenBy: signingPublicKey(launchSeed),
    nextBoot: first.nextBoot,
  })
  expect(open(1).statement).toEqual(first.statement)
  const second = open(2)
  expect(openBoot(second.statement)).toMatchObject({
    generation: 2,
    provenBy: first.nextBoot,
    nextBoot: second.nextBoot,
  })
  expect(openBoot(second.claim).provenBy).toEqual(signingPublicKey(launchSeed))
  expect(second.nextBoot).not.toEqual(first.nextBoot)
  expect(statSync(path()).mode & 0o777).toBe(0o600)
})

test('an agent that lost its keys follows itself in the same boot', () => {
  const before = open(1)
  before.answered()
  const again = open(1, 7)
  expect(openBoot(again.statement)).toMatchObject({ generation: 1, provenBy: before.nextBoot })
})

test('the key of the boot before is gone from the disk once it has signed, from its old place too', () => {
  open(1)
  const seed = readFileSync(path()).subarray(0, 32)
  const file = openSync(path(), 'r')
  open(2)
  const left = new Uint8Array(32)
  readSync(file, left, 0, 32, 0)
  closeSync(file)
  expect(left).toEqual(new Uint8Array(32))
  expect(readFileSync(path()).includes(seed)).toBe(false)
})

test('boots that no broker answered are shown by those after them, and no longer than that', () => {
  const [first, second] = [open(1), open(2)]
  expect(second.line).toEqual([first.statement])
  second.answered()
  expect(open(2).line).toEqual([])
  expect(open(3).line).toEqual([])
  expect(open(4).line).toHaveLength(1)
})

test.each([
  ['damaged', () => writeFileSync(path(), readFileSync(path()).subarray(0, 60))],
  ['empty', () => writeFileSync(path(), '')],
  ['too long', () => writeFileSync(path(), new Uint8Array(20_000))],
  ['gone', () => rmSync(path())],
])('a file that is %s makes a boot that proves nothing but the launch', (_, spoil) => {
  open(1)
  open(2)
  spoil()
  const third = open(3)
  expect(openBoot(third.statement)).toMatchObject({ generation: 1, provenBy: signingPublicKey(launchSeed) })
  expect(third.statement).toEqual(third.claim)
})

test('a boot that runs protests against who used its key, and makes another; against nobody else', () => {
  const state = open(1)
  const { nextBoot } = state
  const stolen = readFileSync(path()).subarray(0, 32)
  const posing = (seed: Uint8Array) => {
    const { vm, launch } = facts
    const keys = { agentDh: new Uint8Array(32), agentSign: new Uint8Array(32), nextBoot: new Uint8Array(32) }
    return signBoot({ version: 1, vm, launch, generation: 2, boot: idOf(2), ...keys }, seed)
  }
  const thief = posing(new Uint8Array(stolen))
  const protests = (by: BootState) =>
    verifyProtest(thief, by.protest(thief, keysOf(1).seed), keysOf(1).keys.signPublicKey)
  expect(protests(state)).toBe(true)
  expect(state.nextBoot).not.toEqual(nextBoot)
  // also after a restart, which makes no third key
  expect(protests(open(1))).toBe(true)
  expect(open(1).nextBoot).toEqual(state.nextBoot)
  expect(open(1).statement).toEqual(state.statement)
  expect(() => state.protest(posing(launchSeed), keysOf(1).seed)).toThrow(
    expect.objectContaining({ code: 'protocol-violation' }),
  )
  expect(openBoot(open(2).statement).provenBy).toEqual(state.nextBoot)
})
