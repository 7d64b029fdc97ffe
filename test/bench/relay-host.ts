/** A program of the bench: a real broker over the hypervisor in memory. Prints its address, then a pair of join tokens per line of stdin. */
import { createInterface } from 'node:readline'
import { Rig } from '../broker/rig.ts'
import { enrolled } from '../broker/sockets.ts'

const rig = await Rig.start()
const launch = await rig.launch('bench')
const control = await enrolled(rig.broker.agents, launch)
console.log(JSON.stringify({ url: rig.broker.origin.replace('http', 'ws') }))
for await (const _line of createInterface({ input: process.stdin })) {
  const { token } = await rig.api().createSession(launch.vm.id, 'channel')
  const offer = await control.next('offer')
  console.log(JSON.stringify({ client: token, agent: offer.token }))
}
await rig.close()
process.exit(0)
