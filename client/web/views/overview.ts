/** The overview: VMs with their states, the form that launches one, bricks, drives, and what the broker is. */
import type { Vm } from '../../../protocol/control/api.ts'
import type { Brick } from '../../broker/api.ts'
import { hostMemoryWords } from '../../vms/host-memory.ts'
import { Fragment, h, useState, type VNode } from '../preact.ts'
import { linkTo } from '../route.ts'
import { type Login, useMortar } from '../state.ts'
import { DrivesCard } from './drives.ts'
import { formatBytes, formatTime } from './format.ts'
import { LaunchForm } from './launch.ts'
import { Button, Card, TableHead } from './parts.ts'
import { StateTag, VmActions } from './vm-actions.ts'

export function Overview(): VNode {
  const { login, vms, bricks } = useMortar()
  const [launching, setLaunching] = useState(false)
  const shown = (vms ?? []).filter(vm => vm.state !== 'destroyed')
  const none = shown.length === 0
  const open = launching || none
  return h(
    Fragment,
    {},
    h('h1', { class: 'hidden' }, 'Overview'),
    h(
      Card,
      {
        title: 'Virtual machines',
        tools: none
          ? undefined
          : h(Button, {
              label: open ? 'Close the form' : 'Launch a VM',
              kind: open ? 'plain' : 'main',
              onPress: () => setLaunching(!launching),
            }),
      },
      open ? h(LaunchForm, { bricks }) : null,
      none ? h('p', { class: 'muted' }, 'You have no VM yet.') : h(VmTable, { vms: shown }),
    ),
    h(DrivesCard, { vm: null }),
    h(BricksCard, { bricks }),
    login ? h(BrokerLine, { login }) : null,
  )
}

function VmTable({ vms }: { vms: readonly Vm[] }): VNode {
  return h(
    'table',
    {},
    h(TableHead, { columns: ['Name', 'State', 'Brick', 'Memory', 'CPUs', 'Launched', 'Actions'] }),
    h(
      'tbody',
      {},
      vms.map(vm =>
        h(
          'tr',
          { key: vm.id, 'data-vm': vm.name },
          h('th', { scope: 'row' }, h('a', { href: linkTo(vm.id) }, vm.name)),
          h('td', {}, h(StateTag, { state: vm.state })),
          h('td', {}, vm.brick),
          h('td', {}, formatBytes(vm.memoryMiB * 2 ** 20)),
          h('td', {}, vm.vcpus),
          h('td', {}, formatTime(vm.createdAt)),
          h('td', { class: 'actions' }, h(VmActions, { vm })),
        ),
      ),
    ),
  )
}

function BricksCard({ bricks }: { bricks: readonly Brick[] }): VNode {
  return h(
    Card,
    { title: 'Bricks' },
    bricks.length === 0
      ? h(
          'p',
          { class: 'muted' },
          'The broker has no brick. An administrator imports one with: mortar brick import IMAGE',
        )
      : h(
          'table',
          {},
          h(TableHead, { columns: ['Name', 'Version', 'Disk', 'Image', 'Agent', 'SHA-256', 'Imported'] }),
          h(
            'tbody',
            {},
            bricks.map(brick =>
              h(
                'tr',
                { key: brick.sha256, 'data-brick': brick.name },
                h('th', { scope: 'row' }, brick.name),
                h('td', {}, brick.version),
                h('td', {}, formatBytes(brick.virtualSizeBytes)),
                h('td', {}, formatBytes(brick.sizeBytes)),
                h('td', {}, brick.agentVersion),
                h('td', {}, h('code', { title: brick.sha256 }, `${brick.sha256.slice(0, 12)}…`)),
                h('td', {}, formatTime(brick.importedAt)),
              ),
            ),
          ),
        ),
  )
}

function BrokerLine({ login: { info } }: { login: Login }): VNode {
  const speed = { kvm: 'hardware acceleration (KVM)', tcg: 'software emulation (TCG)', unknown: 'unknown acceleration' }
  return h(
    'p',
    { class: 'muted small' },
    `Broker ${info.version}: ${info.accelerationReason === '' ? speed[info.acceleration] : info.accelerationReason}. Memory of VMs: ${hostMemoryWords(info.hostMemory)}.`,
  )
}
