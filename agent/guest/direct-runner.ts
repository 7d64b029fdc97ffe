/** Runs programs as children of the agent: for systems without systemd. Each is the leader of a session of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { MortarError } from '../../protocol/core/errors.ts'
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

type Ending = Pick<Running, 'kill' | 'exited'>
const ofGrantees = new Map<string, Set<Ending>>()

/** Remembers a grantee's program until it has ended. */
function remember({ grantee }: Program, running: Ending): void {
  if (grantee === null) return
  const all = ofGrantees.get(grantee) ?? new Set()
  ofGrantees.set(grantee, all.add(running))
  const forget = () => void all.delete(running)
  running.exited.then(forget, forget)
}

export const directRunner: Runner = {
  async run(program: Program): Promise<Running> {
    const [file = '', ...args] = asUser(program)
    const child = spawn(file, args, {
      cwd: program.cwd,
      env: environment(program),
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    })
    const exited = exitOf(child, program.sparesChildren ?? false)
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.on('error', cause => reject(new MortarError('exec-failed', program.argv[0], { cause })))
    })
    const running = {
      stdin: child.stdin,
      stdout: child.stdout,
      stderr: child.stderr,
      exited,
      async signal(name: string) {
        const { pid } = child
        if (pid !== undefined && isRunning(child)) sendSignal(isForAll(name) ? -pid : pid, name as NodeJS.Signals)
      },
      kill: () => void (isRunning(child) && killGroup(child.pid)),
    }
    remember(program, running)
    return running
  },

  async terminal(program: Program, size: TerminalSize): Promise<RunningTerminal> {
    const [file = '', ...args] = asUser(program)
    const env = Object.entries(environment(program)).map(([name, value]) => `${name}=${value}`)
    const exit = Promise.withResolvers<Exit>()
    const { cols, rows } = size
    let ended = false
    const onExit = (code: number, signal: number) => {
      ended = true
      exit.resolve(signal === 0 ? { code, signal: null } : { code: null, signal: signalName(signal) })
    }
    const { fd, pid } = nativePty().fork(file, args, env, program.cwd, cols, rows, -1, -1, true, '', onExit)
    const master = new PtyMaster(fd)
    const running: RunningTerminal = {
      output: take => master.output(take),
      write: bytes => master.write(bytes),
      resize: to => master.resize(to),
      exited: exit.promise,
      kill() {
        master.close()
        if (!ended) sendSignal(pid, 'SIGHUP')
      },
    }
    remember(program, running)
    return running
  },

  asRoot: ([file = '', ...args]) => runTool(file, args),

  async prepare() {},

  async end(grantee) {
    const all = [...(ofGrantees.get(grantee) ?? [])]
    for (const running of all) running.kill()
    await Promise.allSettled(all.map(({ exited }) => exited))
  },

  cleanUp: () => Promise.resolve(),
}

/** argv that becomes the user first, with all of the user's groups. */
function asUser({ argv, user }: Program): string[] {
  if (process.getuid?.() === user.uid) return [...argv]
  return ['/usr/bin/setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, `--groups=${user.groups}`, '--', ...argv]
}

function environment({ user, env }: Program): Record<string, string> {
  return { ...loginEnvironment(user, DEFAULT_PATH), ...env }
}

function exitOf(child: ChildProcess, sparesChildren: boolean): Promise<Exit> {
  return new Promise(resolve => {
    child.once('exit', (code, signal) => {
      // what it left behind would hold the pipes open
      if (!sparesChildren) killGroup(child.pid)
      resolve({ code, signal })
    })
  })
}

/** The process id is the child's own only until it ends. */
function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

function killGroup(pid: number | undefined): void {
  if (pid !== undefined) sendSignal(-pid, 'SIGKILL')
}

function sendSignal(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal)
  } catch {
    // it ended meanwhile
  }
}

function signalName(signal: number): string {
  return Object.entries(constants.signals).find(([, number]) => number === signal)?.[0] ?? `SIG${signal}`
}
