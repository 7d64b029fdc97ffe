/**
 * Runs programs through PID 1 (systemd-run), so that the agent's hardening does not bind users' programs, each has its own
 * cgroup, and a program's end is the end of all it started. How it ended is written by the unit itself (ExecStopPost),
 * because systemd-run reports a program ended by SIGTERM as a success.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, closeSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import { sleep } from '../clock.ts'
import { DEFAULT_PATH } from './program.ts'
import { nativePty, PtyMaster } from './pty.ts'
import {
  type Exit,
  isForAll,
  loginEnvironment,
  type Program,
  type Runner,
  type Running,
  type RunningTerminal,
  type TerminalSize,
} from './runner.ts'
import { runTool } from './tool.ts'

const UNIT_PREFIX = 'mortar-run-'
/** what systemd tells ExecStopPost, which a variable of the same name would hide */
const RESERVED = ['EXIT_CODE', 'EXIT_STATUS', 'SERVICE_RESULT']
/** ms between tries and tries, until PID 1 knows a unit that was just started */
const SIGNAL_TRIES = { everyMs: 200, most: 50 } as const

/** `directory`: private, on tmpfs, as /run/mortar-agent. */
export function systemdRunner(directory: string): Runner {
  const folder = join(directory, 'run')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const ofGrantees = new Map<string, Set<Unit>>()
  const newUnit = (program: Program) => {
    const unit = new Unit(folder, program)
    const { grantee } = program
    if (grantee === null) return unit
    const all = ofGrantees.get(grantee) ?? new Set()
    ofGrantees.set(grantee, all.add(unit))
    const forget = () => void all.delete(unit)
    unit.exited.then(forget, forget)
    return unit
  }
  return {
    async run(program: Program): Promise<Running> {
      const unit = newUnit(program)
      const child = unit.start(
        ['--pipe', ...properties(program.sparesChildren ? ['KillMode=process'] : [])],
        ['pipe', 'pipe', 'pipe'],
      )
      const { stdin, stdout, stderr } = child
      if (!stdin || !stdout || !stderr) throw new MortarError('internal', 'pipes')
      return { stdin, stdout, stderr, exited: unit.exited, signal: name => unit.signal(name), kill: () => unit.kill() }
    },

    async terminal(program: Program, size: TerminalSize): Promise<RunningTerminal> {
      const pty = nativePty().open(size.cols, size.rows)
      const master = new PtyMaster(pty.master)
      const unit = newUnit(program)
      const tty = ['StandardInput=tty-force', 'StandardOutput=tty', 'StandardError=tty', `TTYPath=${pty.pty}`]
      try {
        chownSync(pty.pty, program.user.uid, program.user.gid)
        chmodSync(pty.pty, 0o600)
        // a hang-up is the terminal's way to end programs; what asked to outlive it (nohup, tmux) does
        unit.start(properties([...tty, 'KillMode=process']), ['ignore', 'ignore', 'ignore'])
      } catch (thrown) {
        master.close()
        closeSync(pty.slave)
        throw thrown
      }
      // Our slave stays open until the end, so that neither a late start nor an early exit looks like the end of output.
      const exited = unit.exited.finally(() => closeSync(pty.slave))
      exited.catch(() => {})
      return {
        output: take => master.output(take),
        write: bytes => master.write(bytes),
        resize: to => master.resize(to),
        exited,
        kill() {
          master.close()
          unit.kill()
        },
      }
    },

    asRoot: argv =>
      runTool('systemd-run', [
        '--quiet',
        '--wait',
        '--collect',
        '--pipe',
        '--service-type=exec',
        '--',
        ...argv.map(escapeDollars),
      ]),

    async prepare() {},

    async end(grantee) {
      const all = [...(ofGrantees.get(grantee) ?? [])]
      for (const unit of all) unit.kill()
      await Promise.allSettled(all.map(({ exited }) => exited))
    },

    async cleanUp() {
      rmSync(folder, { recursive: true, force: true })
      mkdirSync(folder, { mode: 0o700 })
      await systemctl(['stop', '--no-block', `${UNIT_PREFIX}*.service`])
    },
  }
}

function properties(list: readonly string[]): string[] {
  return list.flatMap(property => ['--property', property])
}

/** One transient service. */
class Unit {
  readonly #name = `${UNIT_PREFIX}${randomBytes(8).toString('hex')}`
  readonly #program: Program
  readonly #environmentPath: string
  readonly #exitPath: string
  readonly #exit = Promise.withResolvers<Exit>()
  #ended = false
  #killed = false

  constructor(folder: string, program: Program) {
    this.#program = program
    this.#environmentPath = join(folder, `${this.#name}.env`)
    this.#exitPath = join(folder, `${this.#name}.exit`)
    this.#exit.promise.catch(() => {})
  }

  get exited(): Promise<Exit> {
    return this.#exit.promise
  }

  start(options: readonly string[], stdio: readonly ('pipe' | 'ignore')[]): ChildProcess {
    const { argv, user, cwd, env } = this.#program
    const reserved = RESERVED.find(name => Object.hasOwn(env, name))
    if (reserved) throw new MortarError('bad-request', `${reserved} is the system's to set`)
    // a file and not --setenv, which every user of the guest could read in the process list
    writeFileSync(this.#environmentPath, environmentFile({ ...loginEnvironment(user, DEFAULT_PATH), ...env }), {
      mode: 0o600,
    })
    const args = [
      '--quiet',
      '--wait',
      '--collect',
      '--service-type=exec',
      `--unit=${this.#name}`,
      // the default would put argv into the journal
      '--description=Program of the owner',
      `--uid=${user.name}`,
      `--working-directory=${cwd}`,
      ...properties([
        `EnvironmentFile=${this.#environmentPath}`,
        `ExecStopPost=+/bin/sh -c '${this.#reportExit()}'`,
        'TimeoutStopSec=2s',
        'SendSIGHUP=yes',
        'LimitCORE=0',
      ]),
      ...options,
      '--',
      ...argv.map(escapeDollars),
    ]
    const child = spawn('systemd-run', args, { stdio: [...stdio] })
    child.once('error', cause => this.#end(new MortarError('exec-failed', 'systemd-run', { cause })))
    child.once('exit', () => this.#end())
    return child
  }

  /** By an exit code from 200 on PID 1 may mean that it could not execute the program: the unit was never active then. */
  #reportExit(): string {
    const wasActive = `systemctl show --value --property=ActiveEnterTimestampMonotonic ${this.#name}`
    return `{ echo $EXIT_CODE $EXIT_STATUS; case $EXIT_STATUS in 2??) ${wasActive};; esac; } >${this.#exitPath}`
  }

  /** One at a time keeps them in order. A program that has just been started gets it as soon as it is there. */
  async signal(name: string): Promise<void> {
    const whom = isForAll(name) ? 'all' : 'main'
    for (let tries = 0; tries < SIGNAL_TRIES.most && !this.#ended && !this.#killed; tries++) {
      if (await systemctl(['kill', `--kill-who=${whom}`, `--signal=${name}`, this.#name])) return
      await sleep(SIGNAL_TRIES.everyMs)
    }
  }

  kill(): void {
    if (this.#killed) return
    this.#killed = true
    void this.#stop()
  }

  /** Repeated until it is over, for PID 1 may not know the unit yet. */
  async #stop(): Promise<void> {
    while (!this.#ended) {
      await systemctl(['stop', '--no-block', this.#name])
      await sleep(500)
    }
  }

  #end(failure?: MortarError): void {
    if (this.#ended) return
    this.#ended = true
    try {
      if (failure) throw failure
      this.#exit.resolve(parseExit(readFileSync(this.#exitPath, 'utf8')))
    } catch (thrown) {
      const error = thrown instanceof MortarError ? thrown : new MortarError('exec-failed', 'PID 1 did not start it')
      this.#exit.reject(error)
    } finally {
      rmSync(this.#environmentPath, { force: true })
      rmSync(this.#exitPath, { force: true })
    }
  }
}

/**
 * `exited 3`, `killed TERM` or `dumped SEGV`, as systemd gives them to ExecStopPost; behind `exited 203` when the unit
 * became active, 0 for never. Fails with exec-failed when it never ran.
 */
export function parseExit(text: string): Exit {
  const [, how, status = '', active] = /^(exited|killed|dumped) ([\w+-]+)\n(?:(\d+)\n)?$/.exec(text) ?? []
  if (active === '0') throw new MortarError('exec-failed', `PID 1 gave ${status}`)
  if (how === 'exited') return { code: Number(status), signal: null }
  if (how) return { code: null, signal: `SIG${status}` }
  throw new MortarError('exec-failed', 'it did not start')
}

/** The variables as systemd.exec(5) reads them from a file. */
export function environmentFile(env: Readonly<Record<string, string>>): string {
  return Object.entries(env)
    .map(([name, value]) => `${name}="${value.replace(/["\\$`]/g, '\\$&')}"\n`)
    .join('')
}

/** PID 1 replaces $NAME in arguments; $$ is a dollar. */
export function escapeDollars(argument: string): string {
  return argument.replaceAll('$', '$$$$')
}

/** Resolves with true when it worked; what it is used for may be over already. */
function systemctl(args: readonly string[]): Promise<boolean> {
  return new Promise(resolve => execFile('systemctl', ['--quiet', ...args], failed => resolve(!failed)))
}
