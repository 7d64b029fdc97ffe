/** Commands of the host that change its network: `ip` and `nft`, which take root. */
import { spawn } from 'node:child_process'
import { MortarError } from '../../protocol/core/errors.ts'

const PACKAGES = { ip: 'iproute2', nft: 'nftables' } as const
/** nothing of the broker's own environment */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }
const PATIENCE_MS = 20_000

/** Runs to the end and returns stdout. Fails with network-unusable, naming the command and what it said. */
export function runCommand(
  command: keyof typeof PACKAGES,
  args: readonly string[],
  input: string | undefined = undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new MortarError('network-unusable', `${command}: ${why}`))
    const child = spawn(command, args, { env: ENVIRONMENT, stdio: 'pipe', timeout: PATIENCE_MS })
    const output: Record<'stdout' | 'stderr', string> = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', chunk => {
        output[name] += chunk
      })
    }
    child.on('error', (cause: NodeJS.ErrnoException) =>
      fail(cause.code === 'ENOENT' ? `is not installed; its package is ${PACKAGES[command]}` : cause.message),
    )
    child.on('close', code => {
      if (code === 0) resolve(output.stdout)
      else fail(`${output.stderr.trim().split('\n')[0] || `ended with ${code}`} (${args.join(' ')})`)
    })
    child.stdin.on('error', () => undefined)
    child.stdin.end(input ?? '')
  })
}
