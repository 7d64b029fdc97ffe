/** Whether this machine can run VMs at all; a ring that cannot says why and counts as skipped. */
import { describeUnless, missingOf, needsRoot } from './possible.ts'

const NEEDED: Readonly<Record<string, string>> = {
  '/usr/sbin/libvirtd': 'libvirt-daemon',
  '/usr/bin/qemu-system-x86_64': 'qemu-system-x86',
  '/usr/bin/qemu-img': 'qemu-utils',
  '/usr/bin/mmdebstrap': 'mmdebstrap',
}

function whyNot(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'bricks are built for Linux on x86-64'
  return needsRoot('to build a brick and to reach libvirt') ?? missingOf(NEEDED)
}

/** A describe() whose tests are skipped, with the reason in its name, where VMs cannot run. */
export function describeGuest(name: string, tests: () => void): void {
  describeUnless(whyNot(), name, tests)
}
