/** `npm run demo`: the whole story in a real VM, from brick to unlocked drive, by the commands that people use. */
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { brokerInfo, Vm } from '../../protocol/control/api.ts'
import type { z } from '../../protocol/core/schema.ts'
import { startConsole } from '../support/console.ts'
import { Machine } from '../support/machine.ts'
import { runProgram } from '../support/program.ts'
import { idleAgentRss, measure, printFigures } from './numbers.ts'
import { claim, FOLDER, keepRunning, release, stop } from './running.ts'
import { Timeline } from './timeline.ts'

const HELP = `Usage: npm run demo [-- OPTIONS]

Builds what is missing, launches a VM, enrols it, formats and unlocks a drive in it with a key that only the client holds,
runs commands, opens ssh, prints a timeline and figures, and removes everything again.

  --yes     install missing Debian packages without asking; needed where there is no terminal to ask on
  --keep    leave it running, and say how to use and to stop it
  --stop    stop and remove a demo: one that --keep left running, that runs now, or that was cut short

Examples:
  npm run demo
  npm run demo -- --yes --keep`

const VM = 'demo'
/** where the console is served unless somebody else has that port */
const CONSOLE_PORT = 7780

/** Lines of a program's output, as they are shown. */
const shown = (command: string, output: string) => `$ ${command}\n${output.trimEnd()}`

async function story(timeline: Timeline, keep: boolean): Promise<void> {
  await claim()
  let machine: Machine | undefined
  try {
    const page = `127.0.0.1:${await freePort()}`
    machine = await Machine.start({
      parent: FOLDER,
      testBrick: false,
      origins: [`http://${page}`],
      stage: (name, run) => timeline.stage(name, run),
    })
    await lifecycle(timeline, machine)
    await consolePage(timeline, machine, page, keep)
    if (keep) await leave(machine)
  } finally {
    const made = machine
    if (made && !made.left) await timeline.lastStage('all removed', () => made.dispose())
    if (!made?.left) await release()
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
async function consolePage(timeline: Timeline, machine: Machine, listen: string, keep: boolean): Promise<void> {
  const page = await timeline.stage('console served', async say => {
    const started = await startConsole(machine, machine.people.owner, listen, keep)
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
  const { binaries, people, url } = machine
  machine.leave()
  await keepRunning()
  console.log(`
It is left running. To use it:
  export MORTAR_BROKER=${url} MORTAR_IDENTITY=${people.owner.identityPath}
  ${binaries.client} vm list
  ${binaries.client} shell ${VM}
  ${binaries.client} ssh ${VM}
In the console, log in with the identity file ${people.owner.identityPath}
To stop and remove it:
  npm run demo -- --stop`)
}

/** The console's port; another one, said so, when that is taken: the broker must know it before it starts. */
async function freePort(): Promise<number> {
  for (const port of [CONSOLE_PORT, 0]) {
    const server = createServer()
    const listening = await new Promise<number | undefined>(resolve => {
      server.once('error', () => resolve(undefined))
      server.listen(port, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
    })
    if (listening === undefined) continue
    await new Promise(resolve => server.close(resolve))
    if (port === 0) console.log(`Port ${CONSOLE_PORT} is taken: the console will be on port ${listening}`)
    return listening
  }
  throw new Error('no port is free on 127.0.0.1')
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
  if (values.stop) return console.log((await stop()) ? 'Stopped and removed.' : 'No demo is running.')
  await story(new Timeline(untilInterrupted()), values.keep)
}

main().catch(thrown => {
  const { code, message } = thrown as NodeJS.ErrnoException
  const usage = code?.startsWith('ERR_PARSE_ARGS') === true
  console.error(usage ? `npm run demo: ${message}\n  → Run: npm run demo -- --help` : `\nThe demo failed: ${message}`)
  process.exitCode = usage ? 2 : 1
})
