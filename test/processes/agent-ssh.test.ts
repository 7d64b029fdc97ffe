/** SSH through a real agent: keys in, host key out, and sshd on joined pairs. SPEC §9.5 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ssh } from '../../protocol/commands/ssh.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { describeUnless, missingOf, needsRoot } from '../support/possible.ts'
import { AgentProcess, everythingAs, StandInBroker } from './agent-support.ts'

const run = promisify(execFile)
const reason = needsRoot('for sshd to serve other users') ?? missingOf({ '/usr/sbin/sshd': 'openssh-server' })

describeUnless(reason, 'stock ssh through the agent', () => {
  let broker: StandInBroker
  let agent: AgentProcess
  let session: ClientSession
  let port: number
  const listener = createServer(client => {
    const { socket } = broker.offer('ssh')
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

  beforeAll(async () => {
    mkdirSync('/run/sshd', { recursive: true })
    broker = await StandInBroker.start()
    agent = new AgentProcess(broker, everythingAs('games')).start()
    session = await broker.session()
    await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve))
    port = (listener.address() as AddressInfo).port
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(agent.folder, 'id')])
  })
  afterAll(async () => {
    listener.close()
    session?.close()
    await agent?.remove()
    broker?.close()
  })

  const userKey = () => readFileSync(join(agent.folder, 'id.pub'), 'utf8').split(' ').slice(0, 2).join(' ')
  const options = (identity = 'id') => [
    ...['-F', 'none', '-i', join(agent.folder, identity), '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes'],
    ...['-o', `UserKnownHostsFile=${join(agent.folder, 'known_hosts')}`, '-o', 'StrictHostKeyChecking=yes'],
    ...['-o', 'HostKeyAlias=vm'],
  ]
  const connect = (identity?: string) =>
    run('ssh', [...options(identity), '-p', String(port), 'games@127.0.0.1', 'true']).catch(thrown => thrown)

  test('root gets no key delivered', async () => {
    const refused = session.open(ssh, { userKey: userKey(), validSeconds: 600, user: 'root' })
    await expect(refused).rejects.toMatchObject({ code: 'denied' })
  })

  test('after the keys are exchanged stock ssh logs in with strict checking', async () => {
    const { ready } = await session.open(ssh, { userKey: userKey(), validSeconds: 600 })
    expect(ready.user).toBe('games')
    writeFileSync(join(agent.folder, 'known_hosts'), ready.hostKeys.map(key => `vm ${key}\n`).join(''))
    const failed = await connect()
    // the user's shell here is nologin: that it speaks to us shows the login worked
    expect(failed.stdout).toMatch(/not available/)
  })

  test('scp brings a large file whole, both ways', async () => {
    const bytes = randomBytes(20_000_003)
    const [source, target, back] = ['source', 'target', 'back'].map(name => join(agent.folder, name)) as [
      string,
      string,
      string,
    ]
    writeFileSync(source, bytes)
    mkdirSync(target, { mode: 0o777 })
    chmodSync(target, 0o777)
    chmodSync(agent.folder, 0o711)
    await run('scp', [...options(), '-q', '-P', String(port), source, `games@127.0.0.1:${target}/file`])
    await run('scp', [...options(), '-q', '-P', String(port), `games@127.0.0.1:${target}/file`, back])
    expect(readFileSync(back).equals(bytes)).toBe(true)
  })

  test('another key does not log in', async () => {
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(agent.folder, 'other')])
    const failed = await connect('other')
    expect(failed.stderr).toMatch(/Permission denied \(publickey\)/)
  })
})
