/**
 * All orders of boot, reboot, losses, theft, posing, contact, choice, and restarts of broker and agent, up to a depth; worlds that
 * are alike are gone into once. The attack that matters takes five: arrive, contact, steal the next key, reboot, pose. What must hold is said here anew, from what happened, without the product's own rules. SPEC §2.8
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { afterAll, expect, test, vi } from 'vitest'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { commitment, FIRST, keysOf, type Snapshot } from './boot-snapshot.ts'
import { World } from './boot-world.ts'

/** Signatures are functions of their input: equal ones are not computed again. */
vi.mock('@noble/curves/ed25519.js', async original => {
  const real = await original<typeof import('@noble/curves/ed25519.js')>()
  const memory = new Map<string, unknown>()
  const once =
    (name: 'sign' | 'verify' | 'getPublicKey') =>
    (...input: unknown[]) => {
      const key = `${name} ${input.map(part => (part instanceof Uint8Array ? Buffer.from(part).toString('base64') : JSON.stringify(part))).join(' ')}`
      if (!memory.has(key)) memory.set(key, (real.ed25519[name] as (...all: unknown[]) => unknown)(...input))
      const value = memory.get(key)
      return value instanceof Uint8Array ? value.slice() : value
    }
  const ed25519 = { ...real.ed25519, sign: once('sign'), verify: once('verify'), getPublicKey: once('getPublicKey') }
  return { ...real, ed25519 }
})

/** Nonces of enrolments, all alike, so that what is signed is too. */
vi.mock('node:crypto', async original => {
  const real = await original<typeof import('node:crypto')>()
  return { ...real, randomBytes: (length: number) => Buffer.alloc(length, 7) }
})

/** deeper with MORTAR_BOOT_DEPTH, as in the nightly form */
const DEPTH = Number(process.env.MORTAR_BOOT_DEPTH ?? 5)
/** boots and losses of keys within a boot; each makes another boot as far as the owner can tell */
const MOST_KEY_SETS = 3

const folder = mkdtempSync('/dev/shm/mortar-boot-model-')
afterAll(() => rmSync(folder, { recursive: true }))

/** What happened, for the rules below. */
interface Past {
  /** somebody has posed under a key that was stolen, and was taken for something */
  readonly posed: boolean
  /** the disk lost the key of the next boot, or a boot had to be confirmed */
  readonly lost: boolean
  /** the disk lost it, and the owner has certified no boot of the VM since */
  readonly mute: boolean
  /** the owner has certified a later boot than the first of the launch, or decided by hand */
  readonly launchSpent: boolean
}
interface Node {
  readonly snapshot: Snapshot
  readonly past: Past
  readonly path: readonly string[]
}

const EVENTS: Readonly<Record<string, (world: World) => void>> = {
  arrive: world => world.arrive(),
  reboot: world => world.reboot(),
  'reboot without the file': world => world.reboot(true),
  'lose the keys within a boot': world => world.loseKeys(),
  'break the socket': world => world.breakSocket(),
  'restart the broker': world => world.restartBroker(),
  wait: world => world.wait(),
  'steal the next key': world => world.steal('next'),
  'pose by the launch secret': world => world.pose('launch'),
  'pose by the next key': world => world.pose('next'),
  contact: world => void world.contact(),
  'choose the VM': world => void (world.candidates().includes(world.real) && world.contact(world.real)),
}

const NEW_KEYS = new Set(['reboot', 'reboot without the file', 'lose the keys within a boot'])

/**
 * The launch secret is the same at every boot, and what is stolen shows only when somebody uses it: to steal it just before is
 * to have it from the beginning. So it is no event, and half of the worlds begin with it.
 */
function beginnings(): Node[] {
  const past = { posed: false, lost: false, mute: false, launchSpent: false }
  const world = new World(FIRST, folder)
  world.steal('launch')
  return [
    { snapshot: FIRST, past, path: [] },
    { snapshot: world.snapshot(), past, path: ['steal the launch secret'] },
  ]
}

/** Worlds that differ only in what nobody can tell apart are one. */
function idOf({ snapshot, past }: Node): string {
  return createHash('sha256')
    .update(
      JSON.stringify([snapshot, past], (_, value) => (value instanceof Uint8Array ? encodeBase64url(value) : value)),
    )
    .digest('base64')
}

const isThief = (name: string | null) => name?.startsWith('thief') === true
const currentOf = (snapshot: Snapshot) => snapshot.record.agent?.agentSign

/** Checks a world in which something just happened; throws what does not hold. */
function check({ snapshot, past }: Node): void {
  const reopened = () => new World(snapshot, folder)
  const world = reopened()
  const here = snapshot.connected.includes(world.real)
  const judged = world.judge()
  const answered = reopened().contact()

  // a VM that has neither key proves nothing: who has a copy is not told from it, and it waits for its owner to choose it
  const unknowable = past.mute && past.launchSpent
  // whoever is asked by the VM itself never hears somebody else
  if (here && !unknowable)
    expect(isThief(answered), 'the VM is connected, and the owner meets the thief without a question').toBe(false)
  // nobody meets a thief who stole nothing that counts
  if (isThief(answered)) expect(past.posed).toBe(true)
  // no false alarm, and no question without a cause
  if (!past.posed && !past.lost)
    expect(['contested', 'unproven'].includes(judged) && currentOf(snapshot) !== undefined).toBe(false)
  if (here && !past.posed && !past.lost) expect(answered).toBe(world.real)

  // a way back: the VM dials, and the owner meets it, or is asked and may choose it
  const back = reopened()
  back.arrive()
  back.wait()
  const later = new World(back.snapshot(), folder)
  const met = later.contact()
  if (met !== world.real) {
    if (!unknowable) {
      expect(isThief(met), 'the VM is back, and the owner meets the thief without a question').toBe(false)
      expect(['contested', 'unproven']).toContain(later.judge())
    }
    expect(later.candidates()).toContain(world.real)
    expect(later.contact(world.real)).toBe(world.real)
    const chosen = new World(later.snapshot(), folder)
    expect(chosen.contact(), 'after the choice').toBe(world.real)
    // what was chosen stands, whoever poses again under the same keys
    for (const loot of ['launch', 'next'] as const) chosen.pose(loot)
    if (!chosen.snapshot().loot.next) expect(chosen.contact(), 'after the choice, and a thief again').toBe(world.real)
  }

  // strangers change nothing
  const visited = reopened()
  visited.pose('nothing')
  expect(visited.snapshot().record).toEqual(snapshot.record)
  expect(visited.judge()).toBe(judged)

  // a launch secret that is spent disturbs nobody
  if (past.launchSpent && here && answered === world.real) {
    const posed = reopened()
    posed.steal('launch')
    posed.pose('launch')
    expect(posed.contact(), 'a spent launch secret').toBe(world.real)
    expect(posed.alarmed).toBe(false)
  }
}

function pastAfter(name: string, before: Node, world: World): Past {
  const { record } = before.snapshot
  const { record: now } = world.snapshot()
  const changed = JSON.stringify(now) !== JSON.stringify(record)
  const certified = now.certificate !== record.certificate
  const current = currentOf(world.snapshot())
  const later = certified && now.boots.at(-1)?.provenBy !== encodeBase64url(commitment)
  const lost = name === 'reboot without the file'
  return {
    posed: before.past.posed || (name.startsWith('pose') && changed),
    lost: before.past.lost || lost,
    mute: lost || (before.past.mute && !(certified && current === encodeBase64url(keysOf(world.real).sign))),
    launchSpent: before.past.launchSpent || later || (name === 'choose the VM' && certified),
  }
}

test('in all orders of events up to a depth the owner meets the VM, or is asked, or nobody could know', () => {
  let edge = beginnings()
  const seen = new Set(edge.map(idOf))
  let met = 0
  for (let depth = 0; depth < DEPTH; depth++) {
    const next: Node[] = []
    for (const node of edge) {
      for (const [name, happen] of Object.entries(EVENTS)) {
        if (NEW_KEYS.has(name) && node.snapshot.keySets >= MOST_KEY_SETS) continue
        const world = new World(node.snapshot, folder)
        try {
          happen(world)
          const snapshot = world.snapshot()
          const after: Node = { snapshot, past: pastAfter(name, node, world), path: [...node.path, name] }
          const id = idOf(after)
          if (seen.has(id)) continue
          seen.add(id)
          check(after)
          if (isThief(new World(snapshot, folder).contact())) met++
          next.push(after)
        } catch (cause) {
          throw new Error(`${[...node.path, name].join(' → ')}: ${(cause as Error).message}`, { cause })
        }
      }
    }
    edge = next
  }
  // the states that nobody can notice are there: a thief with an unspent key, and a VM that is away
  expect(met).toBeGreaterThan(0)
  process.stdout.write(`boot model: depth ${DEPTH}, ${seen.size} worlds, ${met} in which a thief is met unnoticed\n`)
}, 3_600_000)
