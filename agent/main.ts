/** mortar-agent: runs inside the VM, dials the broker and serves the VM's owner. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { launchSeed } from '../protocol/channel/derive.ts'
import { encodeBase64url } from '../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { wipe } from '../protocol/core/secret.ts'
import { KeptCalls } from '../protocol/kept/kept-calls.ts'
import { nativeSuite } from '../protocol/native/suite.ts'
import { Accounts } from './accounts/accounts.ts'
import { type BootData, readBootData } from './boot-data.ts'
import { type BootKeys, bootKeys, kernelKeyring } from './boot-keys.ts'
import { BootState, readBootId } from './boot-state.ts'
import { clock, deadlineClock } from './clock.ts'
import { CONFIG_PATH, readConfig } from './config.ts'
import { keepConnected } from './connect.ts'
import { startFrugally } from './frugal.ts'
import { Grants } from './grants.ts'
import { directRunner } from './guest/direct-runner.ts'
import { DrivePeople } from './guest/drive-people.ts'
import { Drives } from './guest/drives.ts'
import type { Guest } from './guest/guest.ts'
import { isMounted } from './guest/open-drives.ts'
import { SecretAttempts } from './guest/secret-attempts.ts'
import { SshAccess } from './guest/ssh-access.ts'
import { systemdRunner } from './guest/systemd-runner.ts'
import { HANDLERS } from './handlers/index.ts'
import { failure, log } from './log.ts'
import { Sessions } from './sessions.ts'
import { VERSION } from './version.ts'

const HELP = `mortar-agent ${VERSION}: runs inside a Mortar VM and serves its owner.

  mortar-agent [serve] [--config FILE]   dial the broker and serve (what the systemd unit does)
  mortar-agent doctor [--brick]          check that this system has what the agent needs
  mortar-agent --help | --version

serve reads the launch's boot data (mortar.ticket, mortar.secret, mortar.broker) in $CREDENTIALS_DIRECTORY, keeps what
proves its next boot in $STATE_DIRECTORY and short-lived files in $RUNTIME_DIRECTORY; systemd sets all three. FILE is ${CONFIG_PATH}
unless given. doctor --brick also checks that the image carries no identity. Logs are lines of JSON on stderr.
Exit: 0 ok, 1 failed, 2 usage.

Examples:
  systemctl restart mortar-agent         serve, as the unit is configured
  mortar-agent doctor                    see what this system lacks
  mortar-agent doctor --brick            the same before the image is sealed
`

/** what people's own programs read: accounts, where the brick's name lookup finds them, and each one's SSH */
const SHARED = '/run/mortar-accounts'
/** ms that sessions get to end in order */
const LEAVING_MS = 3_000

/** A directory that systemd gives the unit. Fails with bad-config naming the variable. */
function directory(variable: string): string {
  const path = process.env[variable]
  if (!path || !existsSync(path))
    throw new MortarError('bad-config', `$${variable} names no directory; run by systemd?`)
  return path
}

function openBootState(stateDirectory: string, { ticket, launchSecret }: BootData, keys: BootKeys): BootState {
  const seed = launchSeed(nativeSuite, launchSecret)
  const randomBytes = (length: number) => nativeSuite.randomBytes(length)
  try {
    return BootState.open({ stateDirectory, boot: readBootId(), ticket, launchSeed: seed, keys, randomBytes })
  } finally {
    wipe(seed)
  }
}

async function serve(configPath: string | undefined): Promise<void> {
  startFrugally()
  const config = readConfig(configPath)
  const runtime = directory('RUNTIME_DIRECTORY')
  const bootData = readBootData(directory('CREDENTIALS_DIRECTORY'), nativeSuite)
  const state = directory('STATE_DIRECTORY')
  const keys = bootKeys(nativeSuite, kernelKeyring)
  if (!keys.kept) log('keys.volatile')
  const boot = openBootState(state, bootData, keys)
  const runner = existsSync('/run/systemd/system') ? systemdRunner(runtime) : directRunner
  await runner.cleanUp()
  const shared = existsSync(SHARED) ? SHARED : join(runtime, 'accounts')
  const ssh = new SshAccess(runner, join(shared, 'ssh'))
  const kept = new KeptCalls(deadlineClock)
  const grants = new Grants({
    stateDirectory: state,
    ticket: bootData.ticket,
    config,
    clock: deadlineClock,
    onEntering: grant => people.require(accounts.claim(grant)),
    onEntered: grant => accounts.enter(grant),
    async onWithdrawn(grantee) {
      kept.end({ grantee }, new MortarError('grant-revoked'))
      accounts.withdraw(grantee)
      try {
        ssh.withdraw(grantee)
      } finally {
        await runner.end(grantee)
      }
      // what a program left behind itself, such as by nohup, is the grantee's account's and is not found again
      return false
    },
  })
  const accounts = new Accounts({
    owner: bootData.ticket.owner,
    known: grants.known().map(({ grantee }) => encodeBase64url(grantee)),
    tables: shared,
    runtime,
    homes: config.homes,
    log,
  })
  const people = new DrivePeople({ users: accounts, runtime, isMounted })
  const guest: Guest = {
    accounts,
    generation: boot.generation,
    runner,
    drives: new Drives(runner, people, runtime),
    secretAttempts: new SecretAttempts(clock),
    ssh,
    grants,
    log,
  }
  const leaving = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => leaving.abort())
  const { signal } = leaving
  const sessions = new Sessions({ bootData, keys, boot, guest, handlers: HANDLERS, kept, log, signal })
  log('agent.started', { version: VERSION, vm: bootData.ticket.vm, generation: boot.generation })
  await keepConnected({
    bootData,
    keys,
    boot,
    suite: nativeSuite,
    log,
    signal,
    takeOffer: (offer, onProven) => sessions.take(offer, onProven),
  })
  log('agent.stopping')
  kept.end('all', new MortarError('going-away'))
  setTimeout(() => process.exit(0), LEAVING_MS).unref()
  await sessions.ended()
  wipe(bootData.launchSecret, keys.signSeed)
  keys.dh.wipe()
}

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
  else if (subcommand === 'serve') await serve(values.config)
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
      process.stderr.write(`mortar-agent: ${error.message}\n  → ${error.todo}\n`)
      process.exit(error.code === 'usage' ? 2 : 1)
    },
  )
}
