/** Stock OpenSSH into a VM, by ProxyCommand and by jump host, checking host keys strictly and asking nothing. */

import { spawn } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { accountNameOf } from '../support/people.ts'
import { runProgram } from '../support/program.ts'

describeGuest('ssh', () => {
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
  })
  afterAll(() => machine?.dispose())

  const owner = () => machine.people.owner

  test('nothing listens in the VM', async () => {
    const { stdout } = await machine.mortar(owner(), ['exec', 'lab', '--', 'cat', '/proc/net/tcp', '/proc/net/tcp6'])
    // state 0A is LISTEN
    expect(stdout.split('\n').filter(line => / 0A /.test(line))).toEqual([])
  })

  test('no connection without a key delivered first', async () => {
    const { code, stderr } = await machine.mortar(owner(), ['ssh-proxy', 'lab'], { input: '' })
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/No SSH key was delivered/)
  })

  test('mortar ssh runs stock ssh', async () => {
    const { code, stdout, stderr } = await machine.mortar(owner(), ['ssh', 'lab', 'id', '-un'])
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: `${accountNameOf(owner())}\n` })
  })

  describe.each([
    ['ProxyCommand', []],
    ['jump host', ['--jump']],
  ])('by %s', (name, options) => {
    let config: string
    const environment = () => ({ ...machine.environment(owner()), SSH_ASKPASS: '/bin/false', DISPLAY: '' })
    const openssh = (program: string, args: string[], input?: string) =>
      runProgram(program, ['-F', config, ...args], { env: environment(), ...(input === undefined ? {} : { input }) })

    beforeAll(async () => {
      config = join(machine.folder, `${name.replace(' ', '-')}.conf`)
      const { code, stdout, stderr } = await machine.mortar(owner(), ['ssh-config', 'lab', ...options])
      expect(code, stderr).toBe(0)
      await writeFile(config, stdout)
    })

    test('ssh with strict host-key checking and no prompt', async () => {
      expect(await readFile(config, 'utf8')).toMatch(/StrictHostKeyChecking yes/)
      const { code, stdout, stderr } = await openssh('ssh', ['lab', 'cat; exit 3'], 'through sshd')
      expect({ code, stdout }, stderr).toEqual({ code: 3, stdout: 'through sshd' })
    })

    test('scp both ways', async () => {
      const [there, back] = [join(machine.folder, 'there.bin'), join(machine.folder, 'back.bin')]
      const bytes = Buffer.alloc(3_000_000, 'scp ')
      await writeFile(there, bytes)
      for (const args of [
        [there, 'lab:/tmp/copied.bin'],
        ['lab:/tmp/copied.bin', back],
      ]) {
        const { code, stderr } = await openssh('scp', ['-q', ...args])
        expect(code, stderr).toBe(0)
      }
      expect((await readFile(back)).equals(bytes)).toBe(true)
    })

    test('a port forward', async () => {
      // a service of the owner's machine, seen from the VM
      const server = createServer(socket => socket.end('hello from outside\n'))
      await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
      const address = server.address()
      const port = typeof address === 'object' && address ? address.port : 0
      try {
        const forward = ['-R', `127.0.0.1:18080:127.0.0.1:${port}`, 'lab', 'cat < /dev/tcp/127.0.0.1/18080']
        const remote = await openssh('ssh', [
          '-o',
          'ExitOnForwardFailure=yes',
          ...forward.slice(0, 3),
          `bash -c '${forward[3]}'`,
        ])
        expect(remote.stdout, remote.stderr).toBe('hello from outside\n')
      } finally {
        server.close()
      }
      // a service of the VM, seen from the owner's machine
      const listener =
        'use IO::Socket::INET; my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1:18081", Listen => 1, ReuseAddr => 1) or die; $| = 1; print "up\\n"; my $c = $l->accept; print $c "hello from the VM\\n"; close $c'
      const guest = spawn(machine.binaries.client, ['exec', 'lab', '--', 'perl', '-e', listener], {
        env: environment(),
      })
      await new Promise(resolve => guest.stdout.once('data', resolve))
      // the port from before, which is free again
      const tunnel = spawn('ssh', ['-F', config, '-N', '-L', `${port}:127.0.0.1:18081`, 'lab'], {
        env: { PATH: process.env.PATH, ...environment() },
      })
      try {
        let answer = ''
        for (let tries = 0; tries < 200 && answer === ''; tries++) {
          await delay(300)
          const { stdout } = await runProgram('bash', ['-c', `cat < /dev/tcp/127.0.0.1/${port}`])
          answer = stdout
        }
        expect(answer).toBe('hello from the VM\n')
      } finally {
        tunnel.kill()
        guest.kill()
      }
    })

    test('another host key is refused', async () => {
      const forged = join(machine.folder, 'forged')
      await runProgram('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', forged])
      const [type, key] = (await readFile(`${forged}.pub`, 'utf8')).split(' ')
      const file = join(machine.folder, 'forged.known_hosts')
      const { id } = (await machine.must<{ vm: { id: string } }>(owner(), ['vm', 'show', 'lab'])).vm
      await writeFile(file, `mortar-${id} ${type} ${key}\n`)
      const { code, stderr } = await openssh('ssh', ['-o', `UserKnownHostsFile=${file}`, 'lab', 'true'])
      expect(code).toBe(255)
      expect(stderr).toMatch(/Host key verification failed/)
    })
  })
})
