/** The overview: VMs with their states, the form that launches one, bricks, drives, and what the broker is. */
import type { Vm } from '../../../protocol/control/api.ts'
import type { Brick } from '../../broker-api.ts'
import { Fragment, h, useState, type VNode } from '../preact.ts'
import { linkTo } from '../route.ts'
import { type Login, useMortar } from '../state.ts'
import { DrivesCard } from './drives.ts'
import { formatBytes, formatTime } from './format.ts'
import { LaunchForm } from './launch.ts'
import { Button, Card } from './parts.ts'
import { StateTag, VmActions } from './vm-actions.ts'

export function Overview(): VNode {
  const { login, vms, bricks } = useMortar()
  const [launching, setLaunching] = useState(false)
  const shown = (vms ?? []).filter(vm => vm.state !== 'destroyed')
  const open = launching || shown.length === 0
  return h(
    Fragment,
    {},
    h('h1', { class: 'hidden' }, 'Overview'),
    h(
      Card,
      {
        title: 'Virtual machines',
        tools: h(Button, {
          label: open ? 'Close the form' : 'Launch a VM',
          kind: open ? 'plain' : 'main',
          disabled: shown.length === 0,
          onPress: () => setLaunching(!launching),
        }),
      },
      open ? h(LaunchForm, { bricks }) : null,
      shown.length === 0 ? h('p', { class: 'muted' }, 'You have no VM yet.') : h(VmTable, { vms: shown }),
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
    h('thead', {}, h('tr', {}, ['Name', 'State', 'Brick', 'Memory', 'CPUs', 'Launched', 'Actions'].map(head))),
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
  const columns = ['Name', 'Version', 'Disk', 'Image', 'Agent', 'SHA-256', 'Imported']
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
          h('thead', {}, h('tr', {}, columns.map(head))),
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
    { class: 'muted small', title: info.accelerationReason },
    `Broker ${info.version}, ${speed[info.acceleration]}${info.accelerationReason === '' ? '' : `: ${info.accelerationReason}`}`,
  )
}

function head(title: string): VNode {
  return h('th', { scope: 'col', key: title }, title)
}
