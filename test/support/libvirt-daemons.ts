/**
 * Makes libvirt answer on its system socket: asks systemd where it runs, starts the daemons itself elsewhere. They are
 * left running for whoever comes next; they cost nothing while idle.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const SOCKET = '/run/libvirt/libvirt-sock'

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

/** Resolves when libvirt answers, or rejects with why it cannot. */
export async function ensureLibvirt(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('needs root to reach libvirt')
  if (!existsSync('/usr/sbin/libvirtd')) throw new Error('libvirtd is not installed')
  if (await answers(SOCKET)) return
  if (existsSync('/run/systemd/system')) spawnSync('systemctl', ['start', 'virtlogd', 'libvirtd'])
  else {
    if (!(await answers('/run/libvirt/virtlogd-sock'))) spawnSync('/usr/sbin/virtlogd', ['-d'])
    spawnSync('/usr/sbin/libvirtd', ['-d'])
  }
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await answers(SOCKET)) return
    await delay(200)
  }
  throw new Error('libvirtd does not answer; look at its log (journalctl -u libvirtd)')
}
