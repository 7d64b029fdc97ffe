/** Networks and their filters at libvirt, and the group that it runs QEMU as. Each fails with a LibvirtRefusal, beside what is said. */
import { MortarError } from '../../../protocol/core/errors.ts'
import type { NetworkDefinition } from '../driver.ts'
import type { LibvirtConnection } from './connection.ts'
import { filterXml, isNetwork, networkXml } from './network-xml.ts'
import type { Procedure } from './procedures.ts'
import { ERROR_NUMBERS, LibvirtRefusal } from './refusals.ts'
import { XdrWriter } from './xdr.ts'

interface Named {
  readonly name: string
  readonly uuid: Buffer
}

/** Defines the filter and makes the network, for as long as the host is up. Fails with network-unusable when it is another. */
export async function ensureNetwork(connection: LibvirtConnection, network: NetworkDefinition): Promise<void> {
  // the same definition again changes nothing for VMs that run
  await connection.call('filterDefineXml', new XdrWriter().text(filterXml(network)))
  const found = await find(connection, 'networkLookupByName', network.name, ERROR_NUMBERS.noNetwork)
  if (!found) {
    await connection.call('networkCreateXml', new XdrWriter().text(networkXml(network)))
    return
  }
  const xml = (await connection.call('networkGetXml', write(found).int(0))).text()
  if (isNetwork(network, xml)) return
  const todo = `remove it while no VM runs (virsh net-destroy ${network.name})`
  throw new MortarError('network-unusable', `libvirt's network ${network.name} was changed: ${todo}`)
}

export async function removeNetwork(connection: LibvirtConnection, name: string): Promise<void> {
  const network = await find(connection, 'networkLookupByName', name, ERROR_NUMBERS.noNetwork)
  if (network) await connection.call('networkDestroy', write(network))
  const filter = await find(connection, 'filterLookupByName', name, ERROR_NUMBERS.noFilter)
  if (filter) await connection.call('filterUndefine', write(filter))
}

/** By number. Fails with network-unusable when libvirt names none. */
export async function qemuGroup(connection: LibvirtConnection): Promise<number> {
  const xml = (await connection.call('connectGetCapabilities')).text()
  const dac = /<secmodel>\s*<model>dac<\/model>[\s\S]*?<\/secmodel>/.exec(xml)?.[0] ?? ''
  const gid = /<baselabel type='(?:qemu|kvm)'>\+\d+:\+(\d+)<\/baselabel>/.exec(dac)?.[1]
  if (gid === undefined) throw new MortarError('network-unusable', 'libvirt gives QEMU no user of its own')
  return Number(gid)
}

/** Undefined when libvirt answers with the number `missing`. */
async function find(
  connection: LibvirtConnection,
  procedure: Procedure,
  name: string,
  missing: number,
): Promise<Named | undefined> {
  try {
    const found = await connection.call(procedure, new XdrWriter().text(name))
    return { name: found.text(), uuid: Buffer.from(found.opaque(16)) }
  } catch (refusal) {
    if (refusal instanceof LibvirtRefusal && refusal.number === missing) return undefined
    throw refusal
  }
}

const write = ({ name, uuid }: Named) => new XdrWriter().text(name).opaque(uuid)
