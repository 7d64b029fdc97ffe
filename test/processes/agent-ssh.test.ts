/** SSH through a real agent: keys in, host keys out, and each person's own sshd on joined pairs. SPEC §9.5 */
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import { ssh } from '../../protocol/commands/ssh.ts'
import { accountOf } from '../../protocol/control/account.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { describeUnless, missingOf, needsRoot } from '../support/possible.ts'
import { type Grantee, granteeOf } from './agent-people.ts'
import { AgentProcess, EVERYTHING, MAIN, StandInBroker } from './agent-support.ts'

const run = promisify(execFile)
const reason = needsRoot('for sshd to serve other users') ?? missingOf({ '/usr/sbin/sshd': 'openssh-server' })
/**
 * As in a guest, for this agent alone: names of accounts, which are in /etc/passwd since the system here looks none up where
 * the agent has them; and terminals that belong to the group of terminals.
 */
const AS_IN_A_GUEST =
  'mount --bind "$1" /etc/passwd && mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts && shift && exec "$@"'

describeUnless(reason, 'stock ssh through the agent', () => {
  let broker: StandInBroker
  let agent: AgentProcess
  let session: ClientSession
  let granteeSession: ClientSession
  let grantee: Grantee
  const names = { owner: '', grantee: '' }
  /** listens for the ssh of one person */
  const portOf = { owner: 0, grantee: 0 }
  const listeners: Server[] = []

  /** Like the broker's pipe, for whom the broker says it is. */
  const listenFor = async (user: () => Uint8Array) => {
    const listener = createServer(client => {
      const { socket } = broker.offer('ssh', user())
      client.pause()
      void socket.then(joined => {
        client.on('data', bytes => {
          const pieces = Math.ceil(bytes.length / LIMITS.packetBytes)
          for (let i = 0; i < pieces; i++) {
            joined.send(bytes.subarray(i * LIMITS.packetBytes, (i + 1) * LIMITS.packetBytes))
          }
        })
        client.on('end', () => joined.close(1000))
        client.on('error', () => joined.close(1000))
        joined.on('message', data => client.write(data as Buffer))
        joined.on('close', () => client.end())
        client.resume()
      })
    })
    listeners.push(listener)
    await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve))
    return (listener.address() as AddressInfo).port
  }

  beforeAll(async () => {
    broker = await StandInBroker.start()
    grantee = granteeOf(broker.launch, ['exec', 'ssh'])
    names.owner = accountOf(broker.launch.ticket.owner).name
    names.grantee = accountOf(grantee.sign).name
    // sshd believes no keys below a folder that everybody may write, as /tmp
    agent = new AgentProcess(broker, EVERYTHING, '/run')
    const passwd = join(agent.folder, 'passwd')
    const lines = [broker.launch.ticket.owner, grantee.sign].map(accountOf).map(({ name, id }) => {
      return `${name}:*:${id}:${id}::${join(agent.folder, 'homes', name)}:/bin/bash\n`
    })
    writeFileSync(passwd, readFileSync('/etc/passwd', 'utf8') + lines.join(''))
    const alone = ['--mount', '--propagation', 'private', 'sh', '-c', AS_IN_A_GUEST, 'sh', passwd]
    agent.start(['unshare', ...alone, process.execPath, MAIN])
    session = await broker.session()
    const { agentDh } = broker.enrolments.all[0] as { agentDh: Uint8Array }
    granteeSession = await broker.session(agentDh, grantee)
    portOf.owner = await listenFor(() => broker.launch.ticket.owner)
    portOf.grantee = await listenFor(() => grantee.sign)
    for (const who of ['owner', 'grantee'] as const) {
      await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(agent.folder, who)])
      const userKey = readFileSync(join(agent.folder, `${who}.pub`), 'utf8')
        .split(' ')
        .slice(0, 2)
        .join(' ')
      const their = who === 'owner' ? session : granteeSession
      const { ready } = await their.open(ssh, { userKey, validSeconds: 600 })
      expect(ready.user).toBe(names[who])
      writeFileSync(join(agent.folder, `${who}.hosts`), ready.hostKeys.map(key => `vm ${key}\n`).join(''))
    }
  })
  afterAll(async () => {
    for (const listener of listeners) listener.close()
    session?.close()
    granteeSession?.close()
    await agent?.remove()
    broker?.close()
  })

  type Who = 'owner' | 'grantee'
  interface Attempt {
    readonly port?: Who
    readonly key?: Who
    readonly hosts?: Who
    readonly user?: string
  }
  const options = (who: Who, { key = who, hosts = who }: Attempt = {}) => [
    ...['-F', 'none', '-i', join(agent.folder, key), '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes'],
    ...['-o', `UserKnownHostsFile=${join(agent.folder, `${hosts}.hosts`)}`, '-o', 'StrictHostKeyChecking=yes'],
    ...['-o', 'HostKeyAlias=vm'],
  ]
  const connect = (who: Who, command: string[], attempt: Attempt = {}) => {
    const { port = who, user = names[who] } = attempt
    const args = [...options(who, attempt), '-p', String(portOf[port]), `${user}@127.0.0.1`, ...command]
    return run('ssh', args).catch(thrown => thrown as { stdout: string; stderr: string })
  }

  test.each(['owner', 'grantee'] as const)(
    'stock ssh logs in with strict checking as the account of the %s',
    async who => {
      const { stdout, stderr } = await connect(who, ['id -u; pwd; cat /proc/$PPID/status | grep ^Uid'])
      const id = accountOf(who === 'owner' ? broker.launch.ticket.owner : grantee.sign).id
      const home = join(agent.folder, 'homes', names[who])
      // sshd itself is that account's
      expect(stdout, stderr).toBe(`${id}\n${home}\nUid:\t${id}\t${id}\t${id}\t${id}\n`)
    },
  )

  test('a terminal is the account’s own', async () => {
    const { stdout, stderr } = await connect('grantee', ['-tt', 'tty | xargs stat -c %u; test -t 0 && echo terminal'])
    expect(stdout, stderr).toBe(`${accountOf(grantee.sign).id}\r\nterminal\r\n`)
  })

  test('scp brings a large file whole, both ways', async () => {
    const bytes = randomBytes(20_000_003)
    const [source, back] = [join(agent.folder, 'source'), join(agent.folder, 'back')]
    writeFileSync(source, bytes)
    const there = `${names.owner}@127.0.0.1:file`
    await run('scp', [...options('owner'), '-q', '-P', String(portOf.owner), source, there])
    await run('scp', [...options('owner'), '-q', '-P', String(portOf.owner), there, back])
    expect(readFileSync(back).equals(bytes)).toBe(true)
    const { uid, mode } = statSync(join(agent.folder, 'homes', names.owner))
    expect([uid, mode & 0o777]).toEqual([accountOf(broker.launch.ticket.owner).id, 0o700])
  })

  test.each<[string, RegExp, Attempt]>([
    ['as another account', /Permission denied/, { user: 'OWNER' }],
    ['as root', /Permission denied/, { user: 'root' }],
    ['with another person’s key', /Permission denied/, { key: 'owner' }],
    ['at another person’s sshd', /Host key verification failed/, { port: 'owner' }],
    ['at another person’s sshd whose host key is known', /Permission denied/, { port: 'owner', hosts: 'owner' }],
  ])('nobody logs in %s', async (_, refusal, attempt) => {
    const user = attempt.user === 'OWNER' ? names.owner : attempt.user
    const failed = await connect('grantee', ['id'], { ...attempt, ...(user && { user }) })
    expect([failed.stdout, failed.stderr]).toEqual(['', expect.stringMatching(refusal)])
  })

  test('taking a grant back ends that grantee’s connections and no others', async () => {
    const going = (who: Who) => {
      const child = spawn('ssh', [
        ...options(who),
        ...['-p', String(portOf[who]), `${names[who]}@127.0.0.1`, 'echo on; exec sleep 300'],
      ])
      const closed = new Promise<string>(resolve => child.on('close', () => resolve(who)))
      return { child, closed, on: new Promise(resolve => child.stdout.once('data', resolve)) }
    }
    const [mine, theirs] = [going('owner'), going('grantee')]
    await Promise.all([mine.on, theirs.on])
    await session.open(grantRevoke, { grantee: grantee.sign })
    expect(await Promise.race([mine.closed, theirs.closed])).toBe('grantee')
    expect(mine.child.exitCode).toBeNull()
    mine.child.kill()
    await mine.closed
    const { session: next } = broker.offer('ssh', grantee.sign)
    const declined = await broker.messages.next(message => message.type === 'declined' && message.session === next)
    expect(declined).toMatchObject({ code: 'ssh-not-authorised' })
  })
})
