/** A program of the bench: a real broker over the hypervisor in memory, with a VM whose agent the bench starts. Prints what agent and owner need. */
import { randomUUID } from 'node:crypto'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import { AGENT_PATH } from '../../protocol/control/api.ts'
import { encodeHex } from '../../protocol/core/bytes.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { Rig } from '../broker/rig.ts'

const rig = await Rig.start()
const { owner } = rig.people
const ids = { vm: randomUUID(), launch: randomUUID() }
// as the owner's client derives it, which makes first contact
const secret = owner.launchSecret(ids.vm, ids.launch)
const launch = { ...rig.sign({ ...ids, commitment: launchCommitment(nativeSuite, secret) }), secret }
const { status, json } = await rig.post(launch, 'bench')
if (status !== 200) throw new Error(JSON.stringify(json))
const { origin, agents } = rig.broker
console.log(
  JSON.stringify({
    url: origin,
    agentUrl: `${agents.replace('http', 'ws')}${AGENT_PATH}`,
    vm: ids.vm,
    seed: owner.withSeed(encodeHex),
    ticket: encodeHex(launch.signed),
    launchSecret: encodeHex(secret),
  }),
)
// until the bench has done with it
for await (const _chunk of process.stdin);
await rig.close()
process.exit(0)
