/** The buttons of one drive, by what is possible now. Keys are derived here and go to the VM through the session. */
import type { Drive, Vm } from '../../../protocol/control/api.ts'
import { MortarError } from '../../../protocol/core/errors.ts'
import type { ClientSession } from '../../../protocol/session.ts'
import { detachFrom } from '../../drives/drive-gone.ts'
import { formatDrive, lockDrive, unlockDrive } from '../../drives/drives.ts'
import { about } from '../../errors/name-error.ts'
import { wallClock } from '../../host/clock.ts'
import { h, useState, type VNode } from '../preact.ts'
import { current, type Login, tell } from '../state.ts'
import { refresh } from '../watch.ts'
import { Button, Confirm, Outcome, useAction } from './parts.ts'

/** as the agent sees it */
export interface GuestDrive {
  readonly serial: string
  readonly state: 'blank' | 'locked' | 'open' | 'mounted' | 'foreign'
  readonly mountPoint: string | null
}

export const isOpen = ({ state }: GuestDrive): boolean => state === 'mounted' || state === 'open'

interface Props {
  readonly drive: Drive
  readonly vm: Vm | null
  readonly session: ClientSession | null
  readonly guest: GuestDrive | undefined
  readonly formatted: boolean
  /** the drive's state has changed */
  onDone(): Promise<void>
}

type Question = 'erase' | 'delete' | 'detach'

export function DriveActions({ drive, vm, session, guest, formatted, onDone }: Props): VNode {
  const [asked, ask] = useState<Question | null>(null)
  const action = useAction()
  const { name } = drive
  const act = (label: string, work: (login: Login) => Promise<unknown>) => {
    ask(null)
    return void action.run(label, async () => {
      const { login } = current()
      if (!login) throw new MortarError('login-expired')
      await about(name, () => work(login))
      refresh()
      await onDone()
    })
  }
  const format = (erase: boolean) =>
    act(`Formatting ${name}`, async ({ broker, identity }) => {
      if (!session) throw new MortarError('connection-lost')
      const ready = await formatDrive(broker, identity, session, drive, { erase })
      await unlockDrive(identity, session, ready, { readOnly: false })
    })
  const detach = () =>
    act(`Detaching ${name}`, async ({ broker }) => {
      if (vm) tell(await detachFrom({ broker, session, clock: wallClock }, drive, vm, guest !== undefined))
    })
  const remove = () =>
    act(`Deleting ${name}`, async ({ broker }) => {
      await broker.deleteDrive(drive.id)
      tell(`The broker says that it deleted the drive ${name}.`)
    })
  const open = guest !== undefined && isOpen(guest)
  // the VM's word goes before the broker's: what is open there can be locked there
  const here = vm !== null && (drive.attachedTo === vm.id || open)
  const button = (label: string, onPress: () => void, kind: 'main' | 'danger' | 'plain' = 'plain') =>
    h(Button, { key: label, label, about: name, kind, disabled: action.busy !== null, onPress })

  const buttons = [
    vm !== null && !here && drive.attachedTo === null && (vm.state === 'ready' || vm.state === 'enrolled')
      ? button('Attach', () => act(`Attaching ${name}`, ({ broker }) => broker.attachDrive(drive.id, vm.id)), 'main')
      : null,
    here && session && !open && !formatted ? button('Format and unlock', () => format(false), 'main') : null,
    here && session && !open && formatted
      ? button(
          'Unlock',
          () => act(`Unlocking ${name}`, ({ identity }) => unlockDrive(identity, session, drive, { readOnly: false })),
          'main',
        )
      : null,
    here && session && open ? button('Lock', () => act(`Locking ${name}`, () => lockDrive(session, drive))) : null,
    // unplugged while mounted it would lose what is not yet written, and only the agent knows
    here && !open ? button('Detach', () => (guest ? detach() : ask('detach'))) : null,
    drive.attachedTo === null && !here ? button('Delete', () => ask('delete'), 'danger') : null,
  ]
  return h(
    'div',
    {},
    h('div', { class: 'buttons' }, buttons),
    h(
      Outcome,
      { action },
      action.error?.code === 'drive-not-empty' ? button('Erase what is on it', () => ask('erase'), 'danger') : null,
    ),
    asked === 'erase'
      ? h(Confirm, {
          title: `Erase ${name}?`,
          text: `Everything on the drive ${name} is destroyed for good; then it is formatted and unlocked.`,
          yes: `Erase ${name}`,
          onYes: () => format(true),
          onNo: () => ask(null),
        })
      : null,
    asked === 'detach'
      ? h(Confirm, {
          title: `Detach ${name}?`,
          text: `This page does not see whether ${name} is unlocked in the VM. If it is, connect and lock it first, or data may be lost.`,
          yes: `Detach ${name}`,
          onYes: detach,
          onNo: () => ask(null),
        })
      : null,
    asked === 'delete'
      ? h(Confirm, {
          title: `Delete the drive ${name}?`,
          text: `The broker is told to destroy the drive ${name} and everything on it, for good.`,
          yes: `Delete ${name}`,
          onYes: remove,
          onNo: () => ask(null),
        })
      : null,
  )
}
