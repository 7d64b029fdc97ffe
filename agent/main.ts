/** mortar-agent: runs inside the VM, dials the broker and serves the VM's owner; and, as each account, the runner of programs. */
import { parseArgs } from 'node:util'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { CONFIG_PATH } from './config-path.ts'
import { maySay } from './process/faults.ts'
import { failure, log } from './process/log.ts'
import { VERSION } from './process/version.ts'

const HELP = `mortar-agent ${VERSION}: runs inside a Mortar VM and serves its owner.

  mortar-agent [serve] [--config FILE]   dial the broker and serve (what the systemd unit does)
  mortar-agent doctor [--brick]          check that this system has what the agent needs
  mortar-agent runner                    hold the programs of one account (what the agent has PID 1 start)
  mortar-agent --help | --version

serve reads the launch's boot data (mortar.ticket, mortar.secret, mortar.broker) in $CREDENTIALS_DIRECTORY, keeps what
proves its next boot in $STATE_DIRECTORY and short-lived files in $RUNTIME_DIRECTORY; systemd sets all three. FILE is ${CONFIG_PATH}
unless given. runner listens on descriptor 3. doctor --brick also checks that the image carries no identity. Logs are lines of JSON: stages of the boot
on stdout, which the unit shows on the console too, the rest on stderr.
Exit: 0 ok, 1 failed, 2 usage.

Examples:
  systemctl restart mortar-agent         serve, as the unit is configured
  mortar-agent doctor                    see what this system lacks
  mortar-agent doctor --brick            the same before the image is sealed
`

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean', short: 'V' },
      config: { type: 'string' },
      brick: { type: 'boolean' },
    },
  })
  const [subcommand = 'serve', ...rest] = positionals
  if (values.help) process.stdout.write(HELP)
  else if (values.version) process.stdout.write(`mortar-agent ${VERSION}\n`)
  else if (rest.length > 0) throw new MortarError('usage', rest.join(' '))
  else if (subcommand === 'doctor') return (await import('./doctor.ts')).doctor(values.brick ?? false)
  // each role loads what it needs: a runner is small
  else if (subcommand === 'runner') await (await import('./runner/main.ts')).serveAsRunner()
  else if (subcommand === 'serve') await (await import('./serve.ts')).serve(values.config)
  else throw new MortarError('usage', `no subcommand ${subcommand}`)
  return 0
}

if (import.meta.main) {
  main().then(
    code => process.exit(code),
    thrown => {
      const error = (thrown as { code?: string }).code?.startsWith('ERR_PARSE_ARGS')
        ? new MortarError('usage', (thrown as Error).message)
        : asMortarError(thrown)
      log('agent.failed', failure(error))
      if (maySay()) process.stderr.write(`mortar-agent: ${error.message}\n  → ${error.todo}\n`)
      process.exit(error.code === 'usage' ? 2 : 1)
    },
  )
}
