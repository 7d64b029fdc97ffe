/**
 * Makes libvirt answer on its system socket: asks systemd where it runs, starts the daemons itself elsewhere. They are
 * left running for whoever comes next; they cost nothing while idle.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, readFileSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const SOCKET = '/run/libvirt/libvirt-sock'
/** the daemons' own environment: nothing of the caller's, as under systemd */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' }

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
  const systemd = existsSync('/run/systemd/system')
  if (!systemd) shareKvm()
  if (await answers(SOCKET)) return
  if (systemd) spawnSync('systemctl', ['start', 'virtlogd', 'libvirtd'])
  else {
    const options = { env: ENVIRONMENT, cwd: '/' }
    if (!(await answers('/run/libvirt/virtlogd-sock'))) spawnSync('/usr/sbin/virtlogd', ['-d'], options)
    spawnSync('/usr/sbin/libvirtd', ['-d'], options)
  }
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await answers(SOCKET)) return
    await delay(200)
  }
  throw new Error('libvirtd does not answer; look at its log (journalctl -u libvirtd)')
}

/**
 * Gives /dev/kvm to the group kvm, as udev's rules do where udev runs. When only root may open it, libvirt's probe of QEMU
 * (which keeps a capability) finds KVM, its check (as libvirt-qemu) does not, and it probes anew at every call: each takes
 * minutes. This holds even where guests never use KVM.
 */
function shareKvm(): void {
  const gid = /^kvm:[^:]*:(\d+):/m.exec(readFileSync('/etc/group', 'utf8'))?.[1]
  if (gid === undefined || !existsSync('/dev/kvm')) return
  const { gid: owner, mode } = statSync('/dev/kvm')
  if (owner === Number(gid) && (mode & 0o060) === 0o060) return
  chownSync('/dev/kvm', 0, Number(gid))
  chmodSync('/dev/kvm', 0o660)
}
