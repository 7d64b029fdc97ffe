/** What the steps of a build share: running a tool, finding that one is missing, digests for caches. */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { MortarError } from '../protocol/core/errors.ts'

export type Progress = (line: string) => void

/** Runs a tool to its end; returns its stdout. Fails with internal and the tool's last lines. */
export function run(command: string, args: readonly string[], options: { cwd?: string } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let errors = ''
    child.stdout.on('data', chunk => {
      output += chunk
    })
    child.stderr.on('data', chunk => {
      errors = (errors + chunk).slice(-4000)
    })
    child.on('error', cause => reject(new MortarError('internal', `${command} cannot be started`, { cause })))
    child.on('close', code => {
      if (code === 0) resolve(output)
      else
        reject(
          new MortarError(
            'internal',
            `${command} ended with ${code}:\n${(errors.trim() || output.trim()).split('\n').slice(-12).join('\n')}`,
          ),
        )
    })
  })
}

/** Fails with the apt line that brings what is missing. `tools`: program to Debian package. */
export function requireTools(tools: Readonly<Record<string, string>>): void {
  const missing = Object.entries(tools).filter(([tool]) => spawnSync('which', [tool]).status !== 0)
  if (missing.length === 0) return
  const packages = [...new Set(missing.map(([, name]) => name))].join(' ')
  throw new MortarError('internal', `${missing.map(([tool]) => tool).join(', ')} missing; apt-get install ${packages}`)
}

/** Runs a build as a program: what fails is told in words, with exit code 2 for a wrong option and 1 for all else. */
export async function asProgram(name: string, job: () => Promise<void>): Promise<void> {
  try {
    await job()
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    const usage = code?.startsWith('ERR_PARSE_ARGS') === true
    const detail = thrown instanceof MortarError ? thrown.detail : (thrown as Error).message
    const todo = usage ? `Run: ${name} -- --help` : code === 'EACCES' ? 'Run it as root' : undefined
    console.error(`${name}: ${detail}${todo ? `\n  → ${todo}` : ''}`)
    process.exitCode = usage ? 2 : 1
  }
}

/** Short digest of texts, for names in a cache. */
export function digestOf(texts: readonly string[]): string {
  const hash = createHash('sha256')
  for (const text of texts) hash.update(`${text.length}:${text}`)
  return hash.digest('hex').slice(0, 16)
}

/** SHA-256 of a file, hex. */
export async function digestFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk)
  return hash.digest('hex')
}
