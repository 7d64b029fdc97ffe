/** The agent at its work: boot data, keys, runners, grants, sessions, until it is told to end. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { launchSeed } from '../protocol/channel/derive.ts'
import { encodeBase64url } from '../protocol/core/bytes.ts'
import { MortarError } from '../protocol/core/errors.ts'
import { wipe } from '../protocol/core/secret.ts'
import { KeptCalls } from '../protocol/kept/kept-calls.ts'
import { nativeSuite } from '../protocol/native/suite.ts'
import { Accounts } from './accounts/accounts.ts'
import { type BootData, readBootData } from './boot/boot-data.ts'
import { type BootKeys, bootKeys, kernelKeyring } from './boot/boot-keys.ts'
import { BootState, readBootId } from './boot/boot-state.ts'
import { readConfig } from './config.ts'
import { keepConnected } from './control/connect.ts'
import { Grants } from './grants/grants.ts'
import { type WithdrawalSteps, withdraw } from './grants/withdrawal.ts'
import { DirectLauncher } from './guest/direct-launcher.ts'
import { DrivePeople } from './guest/drive-people.ts'
import { Drives } from './guest/drives.ts'
import type { Guest } from './guest/guest.ts'
import { isMounted } from './guest/open-drives.ts'
import { PlaceBook } from './guest/place.ts'
import { Runners } from './guest/runners.ts'
import { SecretAttempts } from './guest/secret-attempts.ts'
import { SshAccess } from './guest/ssh-access.ts'
import { SystemdLauncher } from './guest/systemd-launcher.ts'
import { asRoot, hasSystemd } from './guest/tool-as-root.ts'
import { HANDLERS } from './handlers/index.ts'
import { resumeProgram } from './handlers/kept-programs.ts'
import { clock, deadlineClock } from './process/clock.ts'
import { keepWords } from './process/faults.ts'
import { startFrugally } from './process/frugal.ts'
import { log } from './process/log.ts'
import { VERSION } from './process/version.ts'
import { startWatchdog } from './process/watchdog.ts'
import { Sessions } from './sessions/sessions.ts'

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

/** Serves until it is told to end. Fails with bad-config and what keeps it from starting. */
export async function serve(configPath: string | undefined): Promise<void> {
  startFrugally()
  // before anything that waits, as for a runner that does not answer
  startWatchdog()
  const config = readConfig(configPath)
  const runtime = directory('RUNTIME_DIRECTORY')
  const bootData = readBootData(directory('CREDENTIALS_DIRECTORY'), nativeSuite)
  const state = directory('STATE_DIRECTORY')
  const keys = bootKeys(nativeSuite, kernelKeyring)
  if (!keys.kept) log('keys.volatile')
  const boot = openBootState(state, bootData, keys)
  const places = new PlaceBook(runtime)
  const launcher = hasSystemd() ? new SystemdLauncher(places) : new DirectLauncher(places)
  const runner = new Runners({ places, launcher, log, asRoot })
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
    onWithdrawn: grantee => withdraw(withdrawal, grantee, log),
  })
  const withdrawal: WithdrawalSteps = {
    calls: grantee => kept.end({ grantee }, new MortarError('grant-revoked')),
    groups: grantee => accounts.withdraw(grantee),
    ssh: grantee => ssh.withdraw(grantee),
    programs: grantee => runner.end(grantee),
  }
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
    kept,
    log,
  }
  // whoever comes for a call waits until that person's are found
  kept.found = runner.restore((place, left) => void resumeProgram(kept, place, left))
  grants.resume()
  const leaving = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => leaving.abort())
  const { signal } = leaving
  const sessions = new Sessions({ bootData, keys, boot, guest, handlers: HANDLERS, kept, log, signal })
  keepWords()
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
  setTimeout(() => process.exit(0), LEAVING_MS).unref()
  await sessions.ended()
  await runner.close()
  wipe(bootData.launchSecret, keys.signSeed)
  keys.dh.wipe()
}
