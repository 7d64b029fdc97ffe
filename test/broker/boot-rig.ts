/** A broker for tests of boots: VMs whose boots enrol under the keys that a test names, and the owner's certificates for them. */
import { afterAll, beforeAll, expect } from 'vitest'
import { type AgentCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { type Launch, Rig } from './rig.ts'
import { type Boot, ControlEnd, enrolled, newBoot, soon } from './sockets.ts'

export let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

let count = 0
let serial = 0
export const launchOne = () => rig.launch(`vm-${count++}`)
export const dial = () => new ControlEnd(rig.broker.agents)
export const arrive = (launch: Launch, boot: Boot, by?: Boot) =>
  enrolled(rig.broker.agents, launch, boot, by ? { by } : {})
export const alarms = async (id: string) => (await rig.vm(id)).events.filter(({ cause }) => cause.startsWith('ALARM'))
export const keyOf = (boot: Boot) => encodeBase64url(signingPublicKey(boot.seed))
export const currentOf = async (id: string) => (await rig.vm(id)).agent?.agentSign
export const sessionAt = (id: string, agent?: string) =>
  rig.call('owner', 'vm.session', { id, body: agent ? { kind: 'channel', agent } : { kind: 'channel' } })

export async function refusedWith(launch: Launch, boot: Boot, by?: Boot): Promise<string> {
  const control = dial()
  await control.enrol(launch, boot, by ? { by } : {})
  const { code } = await control.next('refused')
  await soon(control.closed, 'the close')
  return code
}

/** The owner's certificate for a boot, at the broker. */
export async function certify(launch: Launch, boot: Boot, more: Partial<AgentCertificate> = {}, by?: Boot) {
  const statement = {
    version: 1 as const,
    vm: launch.ticket.vm,
    launch: launch.ticket.launch,
    generation: boot.generation,
    agentDh: boot.keys.publicKey,
    agentSign: signingPublicKey(boot.seed),
    provenBy: by ? signingPublicKey(by.nextSeed) : launch.ticket.commitment,
    nextBoot: signingPublicKey(boot.nextSeed),
    serial: ++serial,
    confirmed: false,
    ...more,
  }
  const certificate = rig.people.owner.withSigningSeed(seed => encodeBase64url(signCertificate(statement, seed)))
  return rig.call('owner', 'vm.certify', { id: launch.ticket.vm, body: { certificate } })
}

/** A VM whose first boot is certified. */
export async function certified() {
  const launch = await launchOne()
  const first = newBoot()
  const agent = await arrive(launch, first)
  expect((await certify(launch, first)).status).toBe(200)
  return { launch, id: launch.vm.id, first, agent }
}
