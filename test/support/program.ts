/** Running a program as a person would, and what came of it. */
import { spawn } from 'node:child_process'

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string | Uint8Array
  readonly timeoutMs?: number
  readonly cwd?: string
}

/** Runs to the end; never rejects for an exit code. Kills and rejects after `timeoutMs` (2 minutes unless given). */
export function runProgram(command: string, args: readonly string[], options: ProgramOptions = {}): Promise<Outcome> {
  const { env = {}, input, timeoutMs = 120_000, cwd } = options
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: { PATH: process.env.PATH ?? '', LANG: 'C.UTF-8', ...env },
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(cwd === undefined ? {} : { cwd }),
    })
    const output: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.on('data', (chunk: Buffer) => output[name].push(chunk))
    }
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${command} ${args.join(' ')} took more than ${timeoutMs} ms\n${Buffer.concat(output.stderr)}`))
    }, timeoutMs)
    child.on('error', reject)
    child.on('close', code => {
      clearTimeout(timer)
      resolve({
        code,
        stdout: Buffer.concat(output.stdout).toString(),
        stderr: Buffer.concat(output.stderr).toString(),
      })
    })
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}
