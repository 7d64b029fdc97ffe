/** The networks of brokers in tests and demo: removed again when a broker could not do so itself. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { LibvirtDriver } from '../../broker/hypervisor/libvirt/driver.ts'
import { removeBridge } from '../../broker/network/bridge.ts'
import { PacketFilter } from '../../broker/network/packet-filter.ts'
import { planNetwork } from '../../broker/network/plan.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'

/** Removes the network of the broker whose machine lives in `folder`, after its VMs; does nothing where there is none. */
export async function removeNetworkOf(folder: string): Promise<void> {
  await removeNetworkOfData(join(folder, 'broker'))
}

/** The same by the broker's data_dir. */
export async function removeNetworkOfData(dataDir: string): Promise<void> {
  const keyPath = join(dataDir, 'broker.key')
  if (process.getuid?.() !== 0 || !existsSync(keyPath)) return
  const { name } = planNetwork(signingPublicKey(new Uint8Array(readFileSync(keyPath))))
  const driver = new LibvirtDriver()
  try {
    await driver.removeNetwork(name)
  } catch {
    // without libvirt there is no network of it
  } finally {
    driver.close()
  }
  await removeBridge(name)
  await new PacketFilter(name).remove()
}
