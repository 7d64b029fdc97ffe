/** The domains that libvirt keeps for brokers of tests and demo. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { LibvirtDriver } from '../../broker/hypervisor/libvirt/driver.ts'

/** Removes the domains of a machine that once lived in `folder`, and no others. */
export async function removeDomainsOf(folder: string): Promise<void> {
  const driver = new LibvirtDriver()
  try {
    for (const { vmId } of await driver.list()) {
      if (!existsSync(join(folder, 'broker/vms', vmId))) continue
      await driver.destroy(vmId).catch(() => undefined)
      await driver.undefine(vmId).catch(() => undefined)
    }
  } finally {
    driver.close()
  }
}

/** Ids of the domains that libvirt runs or keeps for any broker. */
export async function domainIds(): Promise<string[]> {
  const driver = new LibvirtDriver()
  try {
    return (await driver.list()).map(domain => domain.vmId)
  } finally {
    driver.close()
  }
}
