/** Mortar's exec as a way: over a session that stays open, and from nothing to the first result. Both as `mortar exec` does it. */
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import type { Identity } from '../../client/identity/identity.ts'
import { nodeHost } from '../../client/node/host.ts'
import { collectProgram } from '../../client/programs/exec.ts'
import { connectVm } from '../../client/sessions/connect.ts'
import { openLasting } from '../../client/sessions/lasting-session.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { Way } from './exec-rounds.ts'

export interface OurVm {
  readonly url: string
  readonly identity: Identity
  readonly id: string
}

/** Logs in, looks the VM up and opens a session. */
async function connect({ url, identity, id }: OurVm): Promise<ClientSession> {
  const broker = new BrokerApi({ url, identity, pins: pinsInMemory() })
  const vm = await broker.vm(id)
  return openLasting({
    host: nodeHost,
    connect: async () => (await connectVm(broker, identity, nodeHost, vm)).session,
  })
}

async function run(session: ClientSession, argv: readonly string[]) {
  const { code, stdout } = await collectProgram(session, { argv: [...argv] })
  return { code, stdout: Buffer.from(stdout).toString() }
}

async function runTrue(session: ClientSession): Promise<void> {
  const { code } = await run(session, ['true'])
  if (code !== 0) throw new Error(`true ended with ${code}`)
}

/** The session is the caller's to close. */
export async function openExec(vm: OurVm, perRound: number): Promise<{ way: Way; session: ClientSession }> {
  const session = await connect(vm)
  const once = async () => {
    const started = performance.now()
    await runTrue(session)
    return performance.now() - started
  }
  return { session, way: { name: 'exec', perRound, once, run: argv => run(session, argv) } }
}

export function connectAndExec(vm: OurVm, perRound: number): Way {
  const within = async <T>(use: (session: ClientSession) => Promise<T>) => {
    const session = await connect(vm)
    try {
      return await use(session)
    } finally {
      session.close()
      await session.closed
    }
  }
  const once = async () => {
    const started = performance.now()
    let ms = 0
    await within(async session => {
      await runTrue(session)
      ms = performance.now() - started
    })
    return ms
  }
  return { name: 'connect and exec', perRound, once, run: argv => within(session => run(session, argv)) }
}
