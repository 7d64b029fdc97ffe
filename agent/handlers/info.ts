/** info: what the VM is and how it does. SPEC §9.1 */
import { readFileSync } from 'node:fs'
import { availableParallelism, freemem, hostname, release, totalmem, uptime } from 'node:os'
import type { Handlers } from '../../protocol/session.ts'
import { addresses } from '../guest/addresses.ts'
import type { Guest } from '../guest/guest.ts'
import { VERSION } from '../process/version.ts'

export const info: Handlers<Guest>['info'] = async (call, guest) => {
  call.accept({
    hostname: hostname(),
    operatingSystem: operatingSystem(),
    kernel: release(),
    agentVersion: VERSION,
    generation: guest.generation,
    uptimeSeconds: Math.floor(uptime()),
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
    memoryFreeBytes: freemem(),
    addresses: addresses(),
    agentRssBytes: process.memoryUsage.rss(),
  })
}

/** PRETTY_NAME of os-release(5). */
function operatingSystem(): string {
  try {
    const name = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1]
    return (name ?? 'Linux').replace(/\p{Cc}/gu, '').slice(0, 200)
  } catch {
    return 'Linux'
  }
}
