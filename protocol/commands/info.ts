/** info: what the VM is and how it does. One answer in ACCEPT, then END. SPEC §9.1 */
import { object, text, uint, z } from '../core/schema.ts'
import { defineCommand } from './command.ts'

export const info = defineCommand({
  name: 'info',
  permission: 'info',
  params: object({}),
  names: {},
  ready: object({
    hostname: text(255),
    operatingSystem: text(200),
    kernel: text(200),
    agentVersion: text(64),
    generation: uint(),
    uptimeSeconds: uint(),
    cpus: uint(),
    memoryBytes: uint(),
    memoryFreeBytes: uint(),
    addresses: z.array(text(64)).max(16),
    agentRssBytes: uint(),
  }),
  toAgent: {},
  toClient: {},
  takesSecret: false,
})
