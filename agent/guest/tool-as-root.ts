/** Running the system's tools as root outside the agent's sandbox: through PID 1 where systemd is. */
import { existsSync } from 'node:fs'
import { runTool, type ToolResult } from './tool.ts'

/** Whether PID 1 is systemd. */
export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system')
}

/** Runs a tool to its end. argv is the agent's own, never a caller's. */
export function asRoot(argv: readonly string[]): Promise<ToolResult> {
  const [file = '', ...args] = argv
  if (!hasSystemd()) return runTool(file, args)
  const options = ['--quiet', '--wait', '--collect', '--pipe', '--service-type=exec']
  return runTool('systemd-run', [...options, '--', ...argv.map(escapeDollars)])
}

/** PID 1 replaces $NAME in arguments; $$ is a dollar. */
export function escapeDollars(argument: string): string {
  return argument.replaceAll('$', '$$$$')
}
