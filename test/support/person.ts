/** A person's end by the client library, for what the command line does not show. */
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { openDriveNote } from '../../client/drives/drive-note.ts'
import { findDrive } from '../../client/drives/drives.ts'
import type { Identity } from '../../client/identity/identity.ts'
import { nodeHost } from '../../client/node/host.ts'
import { readIdentityFile } from '../../client/node/keystore.ts'
import { connectVm } from '../../client/sessions/connect.ts'
import { findVm } from '../../client/vms/vm.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { Machine, Person } from './machine.ts'

export interface Hands {
  readonly identity: Identity
  readonly broker: BrokerApi
}

/** The person's identity, and the broker as them. */
export async function handsOf(machine: Machine, person: Person): Promise<Hands> {
  const identity = await readIdentityFile(nodeHost.suite, person.identityPath, async () => new Uint8Array())
  return { identity, broker: new BrokerApi({ url: machine.url, identity, pins: pinsInMemory() }) }
}

/** A session with a VM of the person's. The caller closes it. */
export async function sessionWith({ broker, identity }: Hands, vmName: string): Promise<ClientSession> {
  return (await connectVm(broker, identity, nodeHost, await findVm(broker, vmName))).session
}

/** The LUKS key of a drive, as only its owner can derive it. */
export async function driveKeyOf({ broker, identity }: Hands, name: string): Promise<Uint8Array> {
  const drive = await findDrive(broker, name)
  return identity.driveKey(drive.id, openDriveNote(identity, drive.id, drive.note).salt)
}
