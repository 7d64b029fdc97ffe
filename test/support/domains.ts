/** The domains that libvirt keeps for brokers of tests and demo. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { domainName } from '../../broker/hypervisor/libvirt/domain-xml.ts'
import { LibvirtDriver } from '../../broker/hypervisor/libvirt/driver.ts'

const LOGS = '/var/log/libvirt/qemu'

/**
 * Removes the domains of a machine that once lived in `folder`, and no others; their logs too, which libvirt keeps for the
 * operator and the broker therefore leaves alone.
 */
export async function removeDomainsOf(folder: string): Promise<void> {
  const driver = new LibvirtDriver()
  try {
    for (const { vmId } of await driver.list()) {
      if (!existsSync(join(folder, 'broker/vms', vmId))) continue
      await driver.destroy(vmId).catch(() => undefined)
      await driver.undefine(vmId).catch(() => undefined)
      await rm(join(LOGS, `${domainName(vmId)}.log`), { force: true })
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
