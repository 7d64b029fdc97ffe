/** `mortar ssh` and what belongs to it: stock ssh and scp with the sshd of this machine. */
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { describeUnless, missingOf, needsRoot } from '../support/possible.ts'
import { env, folder, mortar, outcomeOf } from './cli-rig.ts'

beforeAll(() => mortar(['vm', 'create', 'first', '--brick', 'debian-12']))

describeUnless(
  needsRoot('for sshd') ?? missingOf({ '/usr/sbin/sshd': 'openssh-server' }),
  'ssh, with the sshd of this machine',
  () => {
    test('no key, no entrance: the broker says why', async () => {
      const refused = await mortar(['ssh-proxy', 'first'])
      expect(refused.code).toBe(4)
      expect(refused.stderr).toContain('No SSH key was delivered')
    })

    test('mortar ssh exchanges keys and runs stock ssh without a question', async () => {
      const run = await mortar(['ssh', 'first', 'echo $((6 * 7)); exit 5'])
      expect([run.stdout, run.code]).toEqual(['42\n', 5])
      expect(run.stderr).toMatch(/^made the SSH key .*\/mine\/ssh\/id_ed25519.*\n$/)
    })

    test('ssh and scp work with what ssh-config prints, and a host key that differs is refused', async () => {
      const config = join(folder, 'ssh.config')
      const printed = await mortar(['ssh-config', 'first'])
      expect([printed.code, printed.stderr]).toEqual([0, ''])
      writeFileSync(config, printed.stdout)
      const ssh = await outcomeOf(spawn('ssh', ['-F', config, 'first', 'id -un'], { env }))
      expect([ssh.code, ssh.bytes.toString()]).toEqual([0, `${userInfo().username}\n`])
      const file = join(folder, 'copied')
      writeFileSync(join(folder, 'original'), randomBytes(500_000))
      const scp = await outcomeOf(
        spawn('scp', ['-O', '-F', config, join(folder, 'original'), `first:${file}`], { env }),
      )
      expect([scp.stderr, scp.code]).toEqual(['', 0])
      expect(spawnSync('cmp', [join(folder, 'original'), file]).status).toBe(0)

      const [known] = /(?<=UserKnownHostsFile ").*(?=")/.exec(printed.stdout) ?? ['']
      const [alias] = /(?<=HostKeyAlias ).*/.exec(printed.stdout) ?? ['']
      const other = `AAAAC3NzaC1lZDI1NTE5AAAAI${'B'.repeat(43)}`
      writeFileSync(known, `${alias} ssh-ed25519 ${other}\n`)
      const swapped = await outcomeOf(spawn('ssh', ['-F', config, 'first', 'true'], { env }))
      expect(swapped.code).toBe(255)
      expect(swapped.stderr).toContain('Host key verification failed')
    })
  },
)
