/** The agent's end for tests of the command line: a real channel over real WebSockets, whose handlers run processes of this machine. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type WebSocket, WebSocketServer } from 'ws'
import { LauncherKey } from '../../broker/vms/launcher-key.ts'
import { wallClock } from '../../client/host/clock.ts'
import type { Call } from '../../protocol/call.ts'
import { launchSeed } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { type exec, STDERR } from '../../protocol/commands/exec.ts'
import type { terminal } from '../../protocol/commands/terminal.ts'
import { type Drive, JOIN_PROTOCOL, launchRequest, type Vm } from '../../protocol/control/api.ts'
import { signBoot } from '../../protocol/control/boot.ts'
import { openTicket } from '../../protocol/control/ticket.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { decodeCbor } from '../../protocol/core/codec.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'
import { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { type Handlers, serveSession } from '../../protocol/session.ts'
import { noHandlers } from '../support/session-pair.ts'
import { type Script, sampleAgent, sampleBrick, sampleVm } from './small-broker.ts'

const session = '33333333-3333-4333-8333-333333333333'

function transportOf(socket: WebSocket): Transport {
  const queue = new PacketQueue()
  socket.on('message', data => queue.push(Uint8Array.from(data as Buffer)))
  socket.on('close', () => queue.end())
  return {
    send: packet => socket.send(packet),
    receive: () => queue.take(),
    async drained() {
      while (socket.bufferedAmount > 1_000_000) await new Promise(resolve => setTimeout(resolve, 2))
    },
    close: () => socket.close(1000),
  }
}

async function runLocally(call: Call<typeof exec>): Promise<void> {
  const [program = '', ...rest] = call.params.argv
  const child = spawn(program, rest, { env: { PATH: process.env.PATH, ...call.params.env }, cwd: call.params.cwd })
  await once(child, 'spawn').catch(cause => {
    throw new MortarError(cause.code === 'ENOENT' ? 'exec-not-found' : 'exec-failed')
  })
  call.signal.addEventListener('abort', () => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  call.accept({})
  const feed = async () => {
    for await (const item of call.received()) {
      if (item.type === 'data') child.stdin.write(item.bytes)
      else if (item.name === 'eof') child.stdin.end()
      else child.kill(item.body.name)
    }
    child.stdin.end()
  }
  feed().catch(() => child.kill('SIGKILL'))
  child.stdin.on('error', () => {})
  const copy = async (from: AsyncIterable<Uint8Array>, lane: number) => {
    for await (const bytes of from) await call.write(bytes, lane)
  }
  await Promise.all([copy(child.stdout, 0), copy(child.stderr, STDERR)])
  const [code, signal] = (await exited) as [number | null, string | null]
  call.post('exit', { code, signal })
}

/** A shell on a terminal that `script` makes; as user `late` one that loses what is typed before it reads. */
async function terminalLocally(call: Call<typeof terminal>): Promise<void> {
  const shell = call.params.user === 'late' ? 'sleep 1; exec bash --norc' : 'exec sh'
  const child = spawn('script', [
    '-qefc',
    `stty rows ${call.params.rows} cols ${call.params.cols}; ${shell}`,
    '/dev/null',
  ])
  const exited = once(child, 'exit')
  call.accept({})
  const feed = async () => {
    for await (const item of call.received()) if (item.type === 'data') child.stdin.write(item.bytes)
  }
  feed().catch(() => child.kill())
  for await (const bytes of child.stdout) await call.write(bytes)
  const [code, signal] = (await exited) as [number | null, string | null]
  call.post('exit', { code, signal })
}

/** sshd of this machine with keys of its own in `folder`; `authorise` lets one key in. */
function sshdIn(folder: string) {
  mkdirSync(folder, { mode: 0o700 })
  const hostKey = join(folder, 'host_key')
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', hostKey])
  const config = join(folder, 'sshd_config')
  writeFileSync(
    config,
    `HostKey ${hostKey}\nAuthorizedKeysFile ${folder}/keys\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n`,
  )
  return {
    hostKey: execFileSync('ssh-keygen', ['-y', '-f', hostKey], { encoding: 'utf8' }).trim(),
    authorise: (key: string) => writeFileSync(join(folder, 'keys'), `${key}\n`),
    serve(socket: WebSocket) {
      const child = spawn('/usr/sbin/sshd', ['-i', '-e', '-f', config], { stdio: ['pipe', 'pipe', 'ignore'] })
      socket.on('message', data => child.stdin.write(data as Buffer))
      socket.on('close', () => child.kill())
      child.stdout.on('data', chunk => socket.send(chunk))
      child.on('exit', () => socket.close(1000))
      child.stdin.on('error', () => {})
    },
  }
}

/**
 * A VM that this machine plays. The script is the broker's part; `sockets` is the server to which the broker's address
 * must lead for WebSockets. `user`: who ssh logs in as.
 */
export function smallAgent(folder: string, brokerKey: () => Uint8Array, user: string) {
  const agentKeys = nobleSuite.generateKeyPair()
  const sshd = sshdIn(join(folder, 'sshd'))
  const launcherKey = new LauncherKey()
  const kept = new KeptCalls(wallClock)
  let vm: Vm | undefined
  let launchSecret: Uint8Array = new Uint8Array(32)
  let ownerDh: Uint8Array = new Uint8Array(32)
  let ssh = false
  let kind = ''
  const handlers: Handlers<undefined> = {
    ...noHandlers,
    exec: runLocally,
    terminal: terminalLocally,
    async ssh(call) {
      sshd.authorise(call.params.userKey)
      ssh = true
      call.accept({ hostKeys: [sshd.hostKey], user })
    },
    'drive-list': async call =>
      call.accept({
        drives: state.devices.map(device => ({ ...device, sizeBytes: 1, mountPoint: null, readOnly: null })),
      }),
    async 'drive-lock'(call) {
      if (state.busy) throw new MortarError('drive-busy')
      const device = state.devices.find(({ serial }) => serial === call.params.serial)
      if (!device) throw new MortarError('drive-detached')
      device.state = 'locked'
      call.accept({ locked: true, holders: [] })
    },
  }
  const nextBoot = new Uint8Array(32).fill(3)
  const bootOf = ({ vm, launch }: { vm: string; launch: string }) => ({
    ...{ version: 1 as const, vm, launch, generation: 1, boot: session, nextBoot },
    ...{ agentDh: agentKeys.publicKey, agentSign: new Uint8Array(32) },
  })
  const script: Script = {
    'GET /v1/bricks': () => ({ json: { bricks: [sampleBrick] } }),
    'POST /v1/vms': body => {
      const { ticket, sealedSecret, options } = decodeCbor(
        launchRequest,
        Uint8Array.from(body as Buffer),
        8192,
        'bad-request',
      )
      const opened = openTicket(ticket)
      launchSecret = launcherKey.open(sealedSecret, opened.vm, opened.launch)
      ownerDh = opened.ownerDh
      vm = sampleVm(opened.owner, {
        id: opened.vm,
        launch: opened.launch,
        name: options.name,
        brickSha256: 'cd'.repeat(32),
        agent: sampleAgent(agentKeys.publicKey, new Uint8Array(32), { addresses: ['10.0.2.15'] }),
        boots: [encodeBase64url(signBoot(bootOf(opened), launchSeed(nobleSuite, launchSecret)))],
      })
      return { json: { vm } }
    },
    'GET /v1/vms': () => ({ json: { vms: vm ? [vm] : [] } }),
    'GET /v1/drives': () => ({ json: { drives: state.drives } }),
  }
  const routeVm: Script[string] = (body, request) => {
    const path = (request.url ?? '').split('?')[0] as string
    state.asked.push(`${request.method} ${path}`)
    const drive = state.drives.find(({ id }) => path.startsWith(`/v1/drives/${id}`))
    if (drive) {
      state.onDetach(drive)
      return { json: { drive: { ...drive, attachedTo: null } } }
    }
    if (!vm || !path.startsWith(`/v1/vms/${vm.id}`)) return { status: 404, json: {} }
    if (path.endsWith('/stop')) vm = { ...vm, state: 'stopped', revision: vm.revision + 1 }
    if (path.endsWith('/certificate')) vm = { ...vm, certificate: (body as { certificate: string }).certificate }
    if (path.endsWith('/sessions')) {
      kind = (body as { kind: string }).kind
      return { json: { session, token: encodeBase64url(new Uint8Array(32)) } }
    }
    return { json: { vm } }
  }
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => JOIN_PROTOCOL })
  const state = {
    script,
    routeVm,
    sockets,
    launcherKey,
    kept,
    away: false,
    /** as the VM has them, and as the broker shows them */
    devices: [] as { serial: string; state: 'locked' | 'mounted' }[],
    drives: [] as Drive[],
    busy: false,
    /** the broker was told to detach it */
    onDetach: (_: Drive) => {},
    /** of VMs and drives, in order */
    asked: [] as string[],
    /** the VM as the broker shows it */
    show(change: Partial<Vm>) {
      if (vm) vm = { ...vm, ...change, revision: vm.revision + 1 }
    },
  }
  sockets.on('connection', socket => {
    if (state.away) return socket.terminate()
    if (kind === 'ssh') return ssh ? sshd.serve(socket) : socket.close(4000, 'ssh-not-authorised')
    if (!vm) return socket.close(4000, 'vm-unreachable')
    serveSession({
      transport: transportOf(socket),
      suite: nobleSuite,
      clock: wallClock,
      facts: { broker: brokerKey(), vm: vm.id, launch: vm.launch, session },
      agentKeys,
      agentSign: new Uint8Array(32),
      ownerDh,
      launchSecret,
      nextBoot: () => nextBoot,
      handlers,
      guest: undefined,
      kept,
      admit: onlyOwner(),
      onReady: () => {
        if (vm) vm = { ...vm, state: 'ready', revision: vm.revision + 1 }
      },
    }).catch(() => undefined)
  })
  return state
}
