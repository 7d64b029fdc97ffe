/**
 * Runners by PID 1: a socket unit and a service for each place, in the person's slice. PID 1 makes the socket in a folder
 * of root's, becomes the user, and passes the socket as descriptor 3. The agent's own unit binds nothing of it.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import { isPopulated, killGroup } from './control-group.ts'
import { type Launcher, runnerArgv } from './launcher.ts'
import { nameOf, type Place, type PlaceBook, personOf } from './place.ts'
import { DEFAULT_PATH } from './tool.ts'

const GROUPS = '/sys/fs/cgroup'
/** processes and threads of one runner's programs at most, so that a fork loop meets an end */
const TASKS = 4_096
/** where a runner finds its pipes: a file system of its own, which is small, since what lies on /run binds PID 1 */
const PIPES = '/run/mortar-pipes'

const sliceOf = (person: string) => `mortar-person-${person}.slice`
const unitOf = (place: Place) => `mortar-runner-${nameOf(place)}`
/** as systemd nests what has dashes in its name */
const groupOf = (person: string) => join(GROUPS, 'mortar.slice/mortar-person.slice', sliceOf(person))
const groupOfRunner = (place: Place) => join(groupOf(personOf(place.grantee)), `${unitOf(place)}.service`)

export class SystemdLauncher implements Launcher {
  readonly #places: PlaceBook

  constructor(places: PlaceBook) {
    this.#places = places
  }

  async start(place: Place): Promise<string> {
    const path = this.#places.socketOf(place)
    if (existsSync(path)) return path
    const unit = unitOf(place)
    const args = [
      '--quiet',
      '--collect',
      `--unit=${unit}`,
      `--slice=${sliceOf(personOf(place.grantee))}`,
      '--description=Programs of a person',
      '--service-type=exec',
      `--uid=${place.user.name}`,
      ...[`ListenStream=${path}`, 'SocketMode=0600', 'DirectoryMode=0700'].map(item => `--socket-property=${item}`),
      ...[
        ...confined(place),
        'TimeoutStopSec=2s',
        // one program that takes too much memory is no reason to end the others
        'OOMPolicy=continue',
        'OOMScoreAdjust=0',
        'LimitCORE=0',
        `TasksMax=${TASKS}`,
        // what a user makes it say belongs into no journal
        'StandardOutput=null',
        'StandardError=null',
      ].map(item => `--property=${item}`),
      '--',
      ...runnerArgv(),
    ]
    if (await run('systemd-run', args)) return path
    // what is left of one that failed is in the way
    await run('systemctl', ['--quiet', 'stop', `${unit}.socket`, `${unit}.service`])
    await run('systemctl', ['--quiet', 'reset-failed', `${unit}.socket`, `${unit}.service`])
    if (await run('systemd-run', args)) return path
    throw new MortarError('internal', 'PID 1 starts no runner')
  }

  runs(place: Place): boolean {
    return existsSync(this.#places.socketOf(place)) && isPopulated(groupOfRunner(place))
  }

  async kill(place: Place): Promise<void> {
    await killGroup(groupOfRunner(place))
  }

  async endPerson(person: string): Promise<void> {
    await killGroup(groupOf(person))
    const sockets = this.#places.of(person).map(place => `${unitOf(place)}.socket`)
    if (sockets.length > 0) await run('systemctl', ['--quiet', 'stop', ...sockets, sliceOf(person)])
    // a runner that a connection had just called for may have come between
    await killGroup(groupOf(person))
  }
}

/** What binds a runner: nothing where it is root, whose mounts are everybody's. */
function confined(place: Place): string[] {
  if (place.user.uid === 0) return [`RuntimeDirectory=${unitOf(place)}`, 'RuntimeDirectoryMode=0700']
  return [
    `TemporaryFileSystem=${PIPES}:mode=1777,nosuid,nodev,noexec,size=64k,nr_inodes=1k`,
    `Environment=RUNTIME_DIRECTORY=${PIPES}`,
    // command lines of others may hold what is theirs alone
    'ProtectProc=invisible',
    // a set-group-id file would give back what was taken from a grant
    ...(place.grantee === null ? [] : ['NoNewPrivileges=yes']),
  ]
}

/** Resolves with true when it worked. */
function run(tool: string, args: readonly string[]): Promise<boolean> {
  const options = { env: { PATH: DEFAULT_PATH, LC_ALL: 'C' }, timeout: 60_000 }
  return new Promise(resolve => execFile(tool, args, options, failed => resolve(!failed)))
}
