/** Drives: all of the person's, made and deleted here; on a VM's page also attached, formatted, unlocked and locked. */
import { driveList } from '../../../protocol/commands/drives.ts'
import type { Drive, Vm } from '../../../protocol/control/api.ts'
import { driveSerial } from '../../../protocol/control/drive-serial.ts'
import { encodeBase64url } from '../../../protocol/core/bytes.ts'
import type { ClientSession } from '../../../protocol/session.ts'
import { openDriveNote } from '../../drives/drive-note.ts'
import { driveIdOf, lockDrive } from '../../drives/drives.ts'
import { h, useEffect, useState, type VNode } from '../preact.ts'
import { linkTo } from '../route.ts'
import { current, report, useMortar } from '../state.ts'
import { DriveActions, type GuestDrive, isOpen } from './drive-actions.ts'
import { DriveForm } from './drive-form.ts'
import { formatBytes } from './format.ts'
import { Button, Card, Outcome, TableHead, useAction } from './parts.ts'

/** `vm`: whose page it is; null on the overview. */
export function DrivesCard({ vm }: { vm: Vm | null }): VNode {
  const { drives, vms, connections, login } = useMortar()
  const [making, setMaking] = useState(false)
  const connection = vm ? connections[vm.id] : undefined
  const session = connection?.stage === 'open' ? connection.session : null
  const [guest, read] = useGuestDrives(session)
  const own = login ? encodeBase64url(login.identity.signKey) : ''
  const here = (drive: Drive) => (vm !== null && drive.attachedTo === vm.id ? 0 : 1)
  const shown = drives
    .filter(drive => vm === null || drive.owner === own)
    .toSorted((a, b) => here(a) - here(b) || a.name.localeCompare(b.name))
  return h(
    Card,
    {
      title: 'Drives',
      tools: h(Button, { label: making ? 'Close the form' : 'Create a drive', onPress: () => setMaking(!making) }),
    },
    making ? h(DriveForm, { onDone: () => setMaking(false) }) : null,
    shown.length === 0
      ? h('p', { class: 'muted' }, 'No drives. A drive is encrypted with a key that only your identity makes.')
      : h(
          'table',
          {},
          h(TableHead, { columns: ['Name', 'Size', 'Attached to', 'State', 'Actions'] }),
          h(
            'tbody',
            {},
            shown.map(drive =>
              h(
                'tr',
                { key: drive.id, 'data-drive': drive.name },
                h('th', { scope: 'row' }, drive.name),
                h('td', {}, formatBytes(drive.sizeBytes)),
                h('td', {}, holderOf(drive, vms ?? [], vm, guest?.get(driveSerial(drive.id)))),
                h('td', {}, stateOf(drive, guest?.get(driveSerial(drive.id)))),
                h(
                  'td',
                  { class: 'actions' },
                  h(DriveActions, {
                    drive,
                    vm,
                    session,
                    formatted: isFormatted(drive),
                    guest: guest?.get(driveSerial(drive.id)),
                    onDone: read,
                  }),
                ),
              ),
            ),
          ),
        ),
    session && guest ? h(HiddenDrives, { session, guest, drives, onDone: read }) : null,
    vm !== null && session === null && shown.some(drive => drive.attachedTo === vm.id)
      ? h('p', { class: 'muted small' }, 'Connect to unlock or lock the drives of this VM.')
      : null,
  )
}

interface HiddenProps {
  readonly session: ClientSession
  readonly guest: ReadonlyMap<string, GuestDrive>
  readonly drives: readonly Drive[]
  onDone(): Promise<void>
}

/** Drives that are open in the VM and that the broker does not show. */
function HiddenDrives({ session, guest, drives, onDone }: HiddenProps): VNode | null {
  const action = useAction()
  const shown = new Set(drives.map(({ id }) => driveSerial(id)))
  const hidden = [...guest.values()].filter(drive => isOpen(drive) && !shown.has(drive.serial))
  if (hidden.length === 0) return null
  const lock = (serial: string) =>
    void action.run('Locking it', async () => {
      await lockDrive(session, { id: driveIdOf(serial) })
      await onDone()
    })
  return h(
    'div',
    { class: 'problem', role: 'alert' },
    h('strong', {}, 'The VM has drives open that the broker does not show'),
    hidden.map(({ serial, mountPoint }) =>
      h(
        'p',
        { key: serial },
        `Serial ${serial}, ${mountPoint ?? 'not mounted'} `,
        h(Button, { label: 'Lock', about: `the drive with serial ${serial}`, onPress: () => lock(serial) }),
      ),
    ),
    h(Outcome, { action }),
  )
}

/** The drives as the agent sees them, by serial; null while nobody asked. The function asks again. */
function useGuestDrives(session: ClientSession | null): [ReadonlyMap<string, GuestDrive> | null, () => Promise<void>] {
  const [guest, setGuest] = useState<ReadonlyMap<string, GuestDrive> | null>(null)
  const read = async () => {
    if (!session) return setGuest(null)
    try {
      const call = await session.open(driveList, {})
      call.end()
      setGuest(new Map(call.ready.drives.map(drive => [drive.serial, drive])))
      for await (const _ of call.received()) {
        // it says nothing more
      }
    } catch (thrown) {
      report(thrown)
    }
  }
  useEffect(() => void read(), [session])
  return [guest, read]
}

function holderOf(drive: Drive, vms: readonly Vm[], here: Vm | null, guest: GuestDrive | undefined) {
  if (guest && isOpen(guest) && drive.attachedTo !== here?.id) return 'this VM, which says so; the broker does not'
  if (drive.attachedTo === null) return h('span', { class: 'muted' }, 'none')
  if (drive.attachedTo === here?.id) return 'this VM'
  const holder = vms.find(vm => vm.id === drive.attachedTo)
  return holder ? h('a', { href: linkTo(holder.id) }, holder.name) : 'another VM'
}

function stateOf(drive: Drive, guest: GuestDrive | undefined) {
  if (guest?.state === 'mounted') {
    return h('span', { class: 'state good' }, `unlocked at ${guest.mountPoint ?? 'an unknown place'}`)
  }
  if (guest?.state === 'open') return h('span', { class: 'state moving' }, 'open, not mounted')
  if (guest?.state === 'foreign') return h('span', { class: 'state bad' }, 'holds other data')
  // whether it is unlocked in there only the agent knows
  if (!guest && drive.attachedTo !== null && isFormatted(drive)) return h('span', { class: 'muted' }, 'connect to see')
  return isFormatted(drive)
    ? h('span', { class: 'state off' }, 'locked')
    : h('span', { class: 'state moving' }, 'blank')
}

/** True when the owner's note knows a header. A note that is not the owner's is told when the drive is used. */
function isFormatted(drive: Drive): boolean {
  const { login } = current()
  if (!login || drive.owner !== encodeBase64url(login.identity.signKey)) return true
  try {
    return openDriveNote(login.identity, drive.id, drive.note).headerDigest !== null
  } catch {
    return true
  }
}
