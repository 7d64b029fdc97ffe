/**
 * Runners started by the agent itself, where no systemd is: setpriv makes the process its user's before anything of ours
 * runs in it. A control group stands for the slice where cgroup v2 is mounted and may be written. Where it is not, what
 * left the process tree of its runner is not found again, and outlives a revocation.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import { sleep } from '../process/clock.ts'
import { controlGroups, killGroup } from './control-group.ts'
import { type Launcher, runnerArgv } from './launcher.ts'
import { nameOf, type Place, type PlaceBook, personOf } from './place.ts'
import { DEFAULT_PATH } from './tool.ts'

const END_MS = 10_000

export class DirectLauncher implements Launcher {
  readonly #places: PlaceBook
  /** of this agent, apart from those of others on the same system; null where there are none */
  readonly #groups: string | null

  constructor(places: PlaceBook) {
    this.#places = places
    const mounted = controlGroups()
    const name = createHash('sha256').update(places.folder).digest('hex').slice(0, 16)
    this.#groups = mounted && makeFolder(join(mounted, `mortar-${name}`))
  }

  async start(place: Place): Promise<string> {
    const path = this.#places.socketOf(place)
    if (this.runs(place)) return path
    const server = createServer()
    // Node removes the name that it listened on when it closes its own copy
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(`${path}.new`, resolve))
    renameSync(`${path}.new`, path)
    try {
      const { fd } = (server as unknown as { _handle: { fd: number } })._handle
      const [file = '', ...args] = asUser(place, runnerArgv())
      const child = spawn(file, args, {
        cwd: '/',
        env: { PATH: DEFAULT_PATH },
        stdio: ['ignore', 'ignore', 'ignore', fd],
        detached: true,
      })
      await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject))
      child.unref()
      if (child.pid === undefined) throw new Error('no process')
      // before it is told to start anything
      if (this.#groups) this.#enter(place, child.pid)
      writeFileSync(this.#pidPath(place), String(child.pid), { mode: 0o600 })
      return path
    } catch (cause) {
      throw new MortarError('internal', 'no runner can be started', { cause })
    } finally {
      server.close()
    }
  }

  #enter(place: Place, pid: number): void {
    const group = join(this.#groupOf(personOf(place.grantee)) ?? '', nameOf(place))
    mkdirSync(group, { recursive: true })
    writeFileSync(join(group, 'cgroup.procs'), String(pid))
  }

  #groupOf(person: string): string | null {
    return this.#groups && join(this.#groups, person)
  }

  #pidPath(place: Place): string {
    return join(this.#places.folder, `${nameOf(place)}.pid`)
  }

  /** The process id of its runner, or null. */
  #pidOf(place: Place): number | null {
    try {
      const pid = Number(readFileSync(this.#pidPath(place), 'utf8'))
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('runner') ? pid : null
    } catch {
      return null
    }
  }

  runs(place: Place): boolean {
    return this.#pidOf(place) !== null
  }

  async kill(place: Place): Promise<void> {
    const group = this.#groupOf(personOf(place.grantee))
    if (group) await killGroup(join(group, nameOf(place)))
    else await this.#killTree(place)
  }

  async endPerson(person: string): Promise<void> {
    const group = this.#groupOf(person)
    if (group) {
      await killGroup(group)
      for (const place of this.#places.of(person)) removeFolder(join(group, nameOf(place)))
      removeFolder(group)
    } else for (const place of this.#places.of(person)) await this.#killTree(place)
  }

  /** Removes the group of this agent, if nothing is in it. */
  dispose(): void {
    if (this.#groups) removeFolder(this.#groups)
  }

  /** Those first that could start others. */
  async #killTree(place: Place): Promise<void> {
    const giveUp = performance.now() + END_MS
    for (let pid = this.#pidOf(place); pid !== null; pid = this.#pidOf(place)) {
      if (performance.now() > giveUp) throw new MortarError('timeout', 'programs that do not end')
      for (const member of [pid, ...descendantsOf(pid)]) sendKill(member)
      await sleep(20)
    }
  }
}

/** argv that becomes the user first, with all of the user's groups. */
function asUser({ user }: Place, argv: readonly string[]): string[] {
  if (process.getuid?.() === user.uid) return [...argv]
  return ['/usr/bin/setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, `--groups=${user.groups}`, '--', ...argv]
}

function descendantsOf(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(name => [Number(name), parentOf(name)] as const)
  const found = [pid]
  for (const parent of found) for (const [child, of] of parents) if (of === parent) found.push(child)
  return found.slice(1)
}

function parentOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return 0
  }
}

function sendKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it ended meanwhile
  }
}

function makeFolder(path: string): string | null {
  try {
    mkdirSync(path, { recursive: true })
    return path
  } catch {
    return null
  }
}

function removeFolder(path: string): void {
  try {
    rmdirSync(path)
  } catch {
    // something is in it
  }
}
