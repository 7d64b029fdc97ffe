/** A program of the bench: a real broker over the hypervisor in memory. Prints its addresses for clients and agents, then a pair of join tokens per line of stdin. */
import { createInterface } from 'node:readline'
import { Rig } from '../broker/rig.ts'
import { enrolled } from '../broker/sockets.ts'

const rig = await Rig.start()
const launch = await rig.launch('bench')
const control = await enrolled(rig.broker.agents, launch)
const { origin, agents } = rig.broker
console.log(JSON.stringify({ url: origin.replace('http', 'ws'), agentUrl: agents.replace('http', 'ws') }))
for await (const _line of createInterface({ input: process.stdin })) {
  const { token } = await rig.api().createSession(launch.vm.id, 'channel')
  const offer = await control.next('offer')
  console.log(JSON.stringify({ client: token, agent: offer.token }))
}
await rig.close()
process.exit(0)
