/** Runs the system's tools: fixed argument lists, an empty environment, secrets by stdin only. */
import { spawn } from 'node:child_process'

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export interface ToolResult {
  readonly code: number
  readonly stdout: string
  /** for the local log: the last KiB */
  readonly stderr: string
}

const MOST_OUTPUT = 65_536

/** Runs a tool to its end. `input`: written to its stdin, still the caller's to wipe. A tool that is missing gives 127. */
export function runTool(name: string, args: readonly string[], input?: Uint8Array): Promise<ToolResult> {
  return new Promise(resolve => {
    const child = spawn(name, args, { env: { PATH: DEFAULT_PATH, LC_ALL: 'C' }, stdio: 'pipe' })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => {
      stdout = (stdout + chunk.toString()).slice(0, MOST_OUTPUT)
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-1024)
    })
    child.stdin.on('error', () => {})
    child.on('error', cause => resolve({ code: 127, stdout, stderr: cause.message }))
    child.on('close', code => resolve({ code: code ?? 128, stdout, stderr }))
    child.stdin.end(input)
  })
}
