/** The jump host with stock OpenSSH: `ssh -J` to an sshd that stands where the guest's would, and everything else refused. */
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import ssh2, { type ParsedKey } from 'ssh2'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { accountOf } from '../../protocol/control/account.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { type PersonName, Rig } from '../broker/rig.ts'
import { type ControlEnd, enrolled, joinPair } from '../broker/sockets.ts'
import { runProgram } from '../support/program.ts'

let rig: Rig
let vmIds: Record<'owner' | 'other', string>
const keyOf: Partial<Record<string, string>> = {}

/** Makes a key pair; returns the path of the private one. */
function newKey(name: string): string {
  const path = join(rig.folder, name)
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', path])
  return path
}
const publicKey = (path: string) => readFileSync(`${path}.pub`, 'utf8').trim()
const register = (who: PersonName, path: string) => rig.api(who).registerSshKey(publicKey(path))

/** Takes ssh offers of the agent's control socket, each to an sshd of its own. */
async function serveSsh(control: ControlEnd, config: string): Promise<void> {
  for (;;) {
    while (!control.messages.some(({ type }) => type === 'offer')) await new Promise(resolve => setTimeout(resolve, 5))
    const offer = await control.next('offer')
    const { socket, received } = await joinPair(rig.broker.origin, offer.token)
    const sshd = spawn('/usr/sbin/sshd', ['-i', '-e', '-f', config], { stdio: ['pipe', 'pipe', 'ignore'] })
    // what came with the upgrade, then the rest
    for (const data of received) sshd.stdin.write(data)
    socket.on('message', data => sshd.stdin.write(data as Buffer))
    socket.on('close', () => sshd.kill())
    sshd.stdin.on('error', () => undefined)
    sshd.stdout.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; at += 32_768) socket.send(chunk.subarray(at, at + 32_768))
    })
    sshd.stdout.on('end', () => socket.close(1000))
  }
}

beforeAll(async () => {
  rig = await Rig.start({ sshListen: { host: '127.0.0.1', port: 0 } })
  for (const name of ['owner-key', 'other-key', 'stranger-key', 'guest-host-key']) keyOf[name] = newKey(name)
  await register('owner', keyOf['owner-key'] as string)
  await register('other', keyOf['other-key'] as string)
  mkdirSync('/run/sshd', { recursive: true })
  const config = join(rig.folder, 'sshd_config')
  writeFileSync(join(rig.folder, 'authorized_keys'), `${publicKey(keyOf['owner-key'] as string)}\n`)
  writeFileSync(
    config,
    `HostKey ${keyOf['guest-host-key']}\nAuthorizedKeysFile ${rig.folder}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n`,
  )
  const [mine, theirs] = [await rig.launch('mine'), await rig.launch('theirs', 'other')]
  vmIds = { owner: mine.vm.id, other: theirs.vm.id }
  for (const launch of [mine, theirs]) void serveSsh(await enrolled(rig.broker.agents, launch), config)
  const [host, port] = (rig.broker.ssh as string).split(':')
  const jumpKey = (await rig.api().info()).ssh?.hostKey
  const guestKey = publicKey(keyOf['guest-host-key'] as string)
  const guests = [...Object.values(vmIds), 'mine', 'theirs'].map(name => `${name} ${guestKey}`).join('\n')
  writeFileSync(join(rig.folder, 'known_hosts'), `[${host}]:${port} ${jumpKey}\n${guests}\n`)
})
afterAll(() => rig.close())

/** An ssh_config by which `key` goes to a VM through the jump host, host keys checked. */
function configFor(key: string): string {
  const [host, port] = (rig.broker.ssh as string).split(':')
  const common = `  IdentityFile ${keyOf[key]}\n  IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking yes\n  UserKnownHostsFile ${rig.folder}/known_hosts\n`
  const path = join(rig.folder, `ssh_config-${key}`)
  writeFileSync(
    path,
    `Host jump\n  HostName ${host}\n  Port ${port}\n  User mortar\n  ProxyJump none\n${common}Host *\n  User root\n  ProxyJump jump\n${common}`,
  )
  return path
}
const ssh = (key: string, ...args: string[]) =>
  runProgram('ssh', ['-F', configFor(key), ...args], { timeoutMs: 60_000 })
const jump = (key: string, ...args: string[]) =>
  runProgram('ssh', ['-F', configFor(key), '-o', 'ProxyJump=none', ...args], { timeoutMs: 60_000 })

test.each(['by id', 'by name'])("ssh -J reaches one's own VM %s", async how => {
  const outcome = await ssh('owner-key', how === 'by id' ? vmIds.owner : 'mine', 'echo out; echo err >&2; exit 7')
  expect(outcome).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' })
})

test('scp carries a file whole both ways', async () => {
  const [there, back] = [join(rig.folder, 'there'), join(rig.folder, 'back')]
  const source = join(rig.folder, 'source')
  writeFileSync(source, randomBytes(5_000_000))
  const config = configFor('owner-key')
  expect((await runProgram('scp', ['-F', config, source, `${vmIds.owner}:${there}`])).code).toBe(0)
  expect((await runProgram('scp', ['-F', config, `${vmIds.owner}:${there}`, back])).code).toBe(0)
  expect(readFileSync(back).equals(readFileSync(source))).toBe(true)
})

test('much output arrives whole when the other end ends first', async () => {
  const { code, stdout } = await ssh('owner-key', vmIds.owner, 'head -c 20000000 /dev/zero | tr "\\0" x')
  expect([code, stdout.length]).toEqual([0, 20_000_000])
})

test('a key that nobody registered is refused', async () => {
  const outcome = await ssh('stranger-key', vmIds.owner, 'true')
  expect(outcome.code).toBe(255)
  expect(outcome.stderr).toContain('Permission denied')
})

test.each(['by id', 'by name'])("another user's VM is refused %s, as one that does not exist is", async how => {
  const theirs = await jump('owner-key', '-W', `${how === 'by id' ? vmIds.other : 'theirs'}:22`, 'jump')
  const nobodys = await jump('owner-key', '-W', 'nobodys:22', 'jump')
  expect(theirs).toEqual(nobodys)
  expect(theirs.code).toBe(255)
})

test("another's registered key does not log in without its signature", async () => {
  const [host, port] = (rig.broker.ssh as string).split(':')
  const read = (name: string) => {
    const key = ssh2.utils.parseKey(readFileSync(keyOf[name] as string))
    if (key instanceof Error) throw key
    return key
  }
  /** what it comes to when `signer` signs for the owner's key */
  const logIn = (signer: string, username = 'mortar') =>
    new Promise<string>(resolve => {
      class Agent extends ssh2.BaseAgent<ParsedKey> {
        getIdentities(answer: (error: Error | undefined, keys?: ParsedKey[]) => void): void {
          answer(undefined, [read('owner-key')])
        }
        sign(_key: ParsedKey, data: Buffer, _options: unknown, answer?: (error?: Error, bytes?: Buffer) => void): void {
          answer?.(undefined, read(signer).sign(data) as Buffer)
        }
      }
      const client = new ssh2.Client()
      client.on('ready', () => {
        resolve('in')
        client.end()
      })
      client.on('error', error => resolve(error.message))
      client.connect({ host: host as string, port: Number(port), username, agent: new Agent() })
    })
  expect(await logIn('stranger-key')).toBe('All configured authentication methods failed')
  expect(await logIn('owner-key')).toBe('in')
  // by the name of an account, the key has to be that person's
  const nameOf = (who: PersonName) => accountOf(rig.people[who].signKey).name
  expect(await logIn('owner-key', nameOf('owner'))).toBe('in')
  expect(await logIn('owner-key', nameOf('other'))).toBe('All configured authentication methods failed')
})

test('other ports and other hosts are refused', async () => {
  for (const place of [`${vmIds.owner}:80`, '127.0.0.1:22', `127.0.0.1:${new URL(rig.broker.origin).port}`]) {
    const { code, stdout, stderr } = await jump('owner-key', '-W', place, 'jump')
    expect([code, stdout]).toEqual([255, ''])
    expect(stderr).toMatch(/open failed|forwarding failed/)
  }
})

test('a shell, a command, sftp, a reverse forward are refused', async () => {
  for (const args of [
    ['jump', 'id'],
    ['-tt', 'jump'],
    ['-s', 'jump', 'sftp'],
  ]) {
    const { code, stdout } = await jump('owner-key', ...args)
    expect([args, code, stdout]).toEqual([args, 255, ''])
  }
  const reverse = await jump('owner-key', '-o', 'ExitOnForwardFailure=yes', '-N', '-R', '0:127.0.0.1:1', 'jump')
  expect(reverse.code).toBe(255)
})

test('a password or no method at all is refused', async () => {
  const { code } = await jump('owner-key', '-o', 'PubkeyAuthentication=no', '-W', `${vmIds.owner}:22`, 'jump')
  expect(code).toBe(255)
})

test("naming another's public key as one's own takes nothing from them", async () => {
  await register('other', keyOf['owner-key'] as string)
  // their own VM is still theirs by its id
  expect((await ssh('owner-key', vmIds.owner, 'echo mine')).stdout).toBe('mine\n')
  expect((await ssh('owner-key', 'mine', 'echo mine')).stdout).toBe('mine\n')
  // and the other has given the key's holder a way to his sshd, no more
  expect((await jump('other-key', '-W', `${vmIds.owner}:22`, 'jump')).code).toBe(255)
})

test('garbage at the jump host ends that connection only', async () => {
  const [host, port] = (rig.broker.ssh as string).split(':')
  const throwAt = (bytes: Buffer) =>
    new Promise<void>(resolve => {
      const socket = connect(Number(port), host)
      socket.on('error', () => undefined)
      socket.on('close', () => resolve())
      socket.resume()
      socket.write(bytes)
      setTimeout(() => socket.destroy(), 300)
    })
  const ident = Buffer.from('SSH-2.0-x\r\n')
  const length = (bytes: number) => Buffer.from([bytes >> 24, bytes >> 16, bytes >> 8, bytes])
  await Promise.all(
    [
      randomBytes(10_000),
      Buffer.alloc(1_000_000, 'x'),
      Buffer.concat([ident, randomBytes(5_000)]),
      Buffer.concat([ident, length(0), randomBytes(100)]),
      Buffer.concat([ident, length(0x7fffffff), randomBytes(100)]),
      // a KEXINIT that is cut short, and one of empty lists
      Buffer.concat([ident, length(28), Buffer.from([10, 20]), randomBytes(26)]),
      Buffer.concat([ident, length(80), Buffer.from([8, 20]), Buffer.alloc(78)]),
      Buffer.from('SSH-1.5-x\r\n'),
    ].map(throwAt),
  )
  expect((await ssh('owner-key', vmIds.owner, 'echo alive')).stdout).toBe('alive\n')
})

test('who connects and says nothing is not kept', async () => {
  expect(existsSync('/usr/sbin/sshd')).toBe(true)
  const [host, port] = (rig.broker.ssh as string).split(':')
  const silent = connect(Number(port), host)
  silent.resume()
  const started = Date.now()
  await new Promise(resolve => silent.once('close', resolve))
  expect(Date.now() - started).toBeLessThan(45_000)
})

test('who opens many connections and does not log in loses the oldest of them', async () => {
  const [host, port] = (rig.broker.ssh as string).split(':')
  const silent: Socket[] = []
  for (let i = 0; i <= LIMITS.unauthenticatedPerAddress; i++) {
    const socket = connect(Number(port), host)
    socket.on('error', () => undefined)
    // the server speaks first, once it has the connection
    await new Promise(resolve => socket.once('data', resolve))
    silent.push(socket)
    if (i < LIMITS.unauthenticatedPerAddress) continue
    await expect.poll(() => silent[0]?.closed).toBe(true)
    expect(silent.filter(({ closed }) => closed)).toHaveLength(1)
  }
  expect((await ssh('owner-key', 'mine', 'true')).code).toBe(0)
  for (const socket of silent) socket.destroy()
})

test('a close of the broker ends connections at the jump host', async () => {
  const [host, port] = (rig.broker.ssh as string).split(':')
  const socket = connect(Number(port), host)
  await new Promise(resolve => socket.once('data', resolve))
  const closed = new Promise(resolve => socket.once('close', resolve))
  await rig.stopBroker()
  await closed
  await rig.startBroker()
})
