/** Numbers of libvirt's remote protocol that we use. They are append-only: a number never changes its meaning. */
export const PROGRAM = 0x20008086
export const KEEPALIVE_PROGRAM = 0x6b656570

export const PROCEDURES = {
  connectOpen: 1,
  connectGetVersion: 4,
  connectGetCapabilities: 7,
  domainDestroy: 12,
  domainLookupByUuid: 24,
  domainShutdown: 33,
  networkCreateXml: 40,
  networkDestroy: 42,
  networkGetXml: 43,
  networkLookupByName: 46,
  authList: 66,
  authPolkit: 70,
  domainAttachDevice: 160,
  domainDetachDevice: 161,
  filterLookupByName: 175,
  filterDefineXml: 180,
  filterUndefine: 181,
  domainCreate: 196,
  domainGetState: 212,
  domainUndefine: 231,
  listAllDomains: 273,
  registerEvent: 316,
  domainDefineXml: 350,
  domainGetXml: 14,
} as const
export type Procedure = keyof typeof PROCEDURES

/** ms that libvirt has for an answer; the slow ones may first probe what this QEMU can do, or wait for its end */
const ANSWER_MS = 60_000
const SLOW_MS: Partial<Record<Procedure, number>> = {
  domainDefineXml: 180_000,
  domainCreate: 180_000,
  domainDestroy: 120_000,
}
export const answerMs = (procedure: Procedure): number => SLOW_MS[procedure] ?? ANSWER_MS

/** event ids to register for, and the procedure numbers their messages come with */
export const EVENTS = {
  lifecycle: { id: 0, message: 318 },
  reboot: { id: 1, message: 319 },
  deviceRemoved: { id: 15, message: 333 },
} as const

/** virDomainEventType of lifecycle events */
export const LIFECYCLE = { started: 2, stopped: 5, crashed: 8 } as const
/** virDomainEventStoppedDetailType */
export const STOPPED_DETAILS = ['shut down', 'destroyed', 'crashed', 'migrated', 'saved', 'failed', 'snapshot'] as const
/** virDomainState */
export const DOMAIN_STATES = [
  'stopped',
  'running',
  'running',
  'paused',
  'running',
  'stopped',
  'crashed',
  'paused',
] as const
