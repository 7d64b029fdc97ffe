/** How much memory an idle agent takes, above what Node takes by itself. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { buildProgram } from '../../images/build-binaries.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

/** Memory of a process's own: pages of program files, which all processes share and the kernel may drop, left out. */
function ownMiB(pid: number | undefined): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

test('an idle agent takes at most 20 MiB of its own above a bare Node', async () => {
  const broker = await StandInBroker.start()
  const agent = new AgentProcess(broker)
  const bare = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)'])
  try {
    const { path } = await buildProgram('mortar-agent', () => {})
    agent.start([path])
    await agent.saw('enrolled')
    await agent.saw('agent.idle')
    expect(ownMiB(agent.pid) - ownMiB(bare.pid)).toBeLessThan(20)
  } finally {
    bare.kill()
    await agent.remove()
    broker.close()
  }
})
