/** `npm run demo`: the whole story in a real VM, from brick to unlocked drive, by the commands that people use. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { brokerInfo, Vm } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { z } from '../../protocol/core/schema.ts'
import { startConsole } from '../support/console.ts'
import { Machine } from '../support/machine.ts'
import { runProgram } from '../support/program.ts'
import { noteKept, readKept, stopKept } from './kept.ts'
import { idleAgentRss, measure, printFigures } from './numbers.ts'
import { Timeline } from './timeline.ts'

const HELP = `Usage: npm run demo [-- OPTIONS]

Builds what is missing, launches a VM, enrols it, formats and unlocks a drive in it with a key that only the client holds,
runs commands, opens ssh, prints a timeline and figures, and removes everything again.

  --yes     install missing Debian packages without asking; needed where there is no terminal to ask on
  --keep    leave it running, and say how to use and to stop it
  --stop    stop what --keep left running

Examples:
  npm run demo
  npm run demo -- --yes --keep`

const FOLDER = '/var/lib/mortar-demo'
const VM = 'demo'

/** Lines of a program's output, as they are shown. */
const shown = (command: string, output: string) => `$ ${command}\n${output.trimEnd()}`

async function story(timeline: Timeline, keep: boolean): Promise<void> {
  await mkdir(FOLDER, { recursive: true, mode: 0o711 })
  let machine: Machine | undefined
  try {
    machine = await Machine.start({
      parent: FOLDER,
      testBrick: false,
      origins: ['http://127.0.0.1:7780'],
      stage: (name, run) => timeline.stage(name, run),
    })
    await lifecycle(timeline, machine)
    await consolePage(timeline, machine, keep)
    if (keep) await leave(machine)
  } finally {
    const made = machine
    if (made && !made.left) await timeline.lastStage('all removed', () => made.dispose())
    timeline.print()
  }
}

async function lifecycle(timeline: Timeline, machine: Machine): Promise<void> {
  const { owner } = machine.people
  const must = <T = object>(...args: string[]) => machine.must<T>(owner, args)

  const started = await timeline.stage('VM launched from the brick', async say => {
    const { vm } = await must<{ vm: Vm }>('vm', 'create', VM, '--brick', machine.brickName, '--wait', 'none')
    const { accelerationReason } = (await (await fetch(`${machine.url}/v1/broker`)).json()) as z.output<
      typeof brokerInfo
    >
    say(`${vm.id}, ${vm.memoryMiB} MiB, state ${vm.state}\n${accelerationReason}`)
    return performance.now()
  })
  const enrolledSeconds = await timeline.stage('agent enrolled', async say => {
    const { vm } = await must<{ vm: Vm }>('vm', 'wait', VM, '--for', 'enrolled')
    const seconds = (performance.now() - started) / 1000
    say(`addresses ${vm.agent?.addresses.join(', ')}\npublic key ${vm.agent?.agentDh}`)
    return seconds
  })
  const idleAgentBytes = await timeline.stage('agent left alone until idle', () => idleAgentRss(machine, VM))
  await timeline.stage('connected: encrypted channel, agent certified by its owner', async say => {
    say(shown(`mortar exec ${VM} -- uname -a`, await machine.inVm(owner, VM, ['uname', '-a'])))
  })
  await timeline.stage('drive created and plugged into the running VM', async () => {
    await must('drive', 'create', 'data', '--size', '64M')
    await must('drive', 'attach', 'data', VM)
  })
  await timeline.stage('drive formatted, unlocked and mounted with a key only the client holds', async say => {
    const { mountPoint } = await must<{ mountPoint: string }>('drive', 'unlock', 'data', '--format')
    const write = ['sh', '-c', `echo 'measured in secret' > ${mountPoint}/result && cat ${mountPoint}/result`]
    say(shown(`echo … > ${mountPoint}/result && cat ${mountPoint}/result`, await machine.inVm(owner, VM, write)))
    const blocks = ['lsblk', '-o', 'NAME,TYPE,FSTYPE,SIZE,MOUNTPOINTS']
    say(shown(blocks.join(' '), await machine.inVm(owner, VM, blocks)))
  })
  await timeline.stage('plain ssh into the VM', async say => {
    const config = join(machine.folder, 'ssh_config')
    const { code, stdout, stderr } = await machine.mortar(owner, ['ssh-config', VM])
    if (code !== 0) throw new Error(stderr)
    await writeFile(config, stdout)
    const command = 'hostname; id -un; df -h /drives/data | tail -n 1'
    const ssh = await runProgram('ssh', ['-F', config, VM, command], { env: machine.environment(owner) })
    if (ssh.code !== 0) throw new Error(`ssh ended with ${ssh.code}: ${ssh.stderr}`)
    say(shown(`ssh -F ssh_config ${VM} '${command}'`, ssh.stdout))
  })
  const figures = await timeline.stage('figures measured', () => measure(machine, { enrolledSeconds, idleAgentBytes }))
  printFigures(figures)
}

/** Serves the console and shows its address. */
async function consolePage(timeline: Timeline, machine: Machine, keep: boolean): Promise<void> {
  const page = await timeline.stage('console served', async say => {
    const started = await startConsole(machine, machine.people.owner, '127.0.0.1:7780', keep)
    try {
      const answer = await fetch(started.url)
      if (!answer.ok || !(await answer.text()).includes('<script')) throw new Error(`${started.url} serves no page`)
    } catch (cause) {
      started.stop()
      throw cause
    }
    say(`open ${started.url}`)
    return started
  })
  if (keep) machine.keep(page.child)
  else page.stop()
}

async function leave(machine: Machine): Promise<void> {
  const { folder, binaries, people } = machine
  const processes = machine.leave()
  await noteKept({ folder, processes })
  const environment = Object.entries(machine.environment(people.owner)).map(([name, value]) => `${name}=${value}`)
  console.log(`
It is left running. To use it:
  export ${environment.join(' ')}
  ${binaries.client} vm list
  ${binaries.client} shell ${VM}
  ${binaries.client} ssh ${VM}
In the console, log in with the identity file ${people.owner.identityPath}
To stop and remove it:
  npm run demo -- --stop`)
}

/** Aborts at the first Ctrl-C or SIGTERM, so that the demo cleans up; a second one ends it at once. */
function untilInterrupted(): AbortSignal {
  const interruption = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      console.error(`\n${name}: ending in order`)
      interruption.abort(new Error('it was interrupted'))
    })
  }
  return interruption.signal
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      yes: { type: 'boolean' },
      keep: { type: 'boolean', default: false },
      stop: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(HELP)
  if (values.stop) {
    return console.log((await stopKept()) ? 'Stopped and removed.' : 'No demo is running.')
  }
  if (await readKept()) {
    throw new MortarError('vm-state', 'a demo was left running; stop it with: npm run demo -- --stop')
  }
  await story(new Timeline(untilInterrupted()), values.keep)
}

main().catch(thrown => {
  console.error(`\nThe demo failed: ${(thrown as Error).message}`)
  process.exitCode = (thrown as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1
})
