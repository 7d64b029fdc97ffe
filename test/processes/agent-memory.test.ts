/** How much memory an idle agent takes, above what Node takes by itself. */
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bundle } from '../../images/bundle.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

const settled = () => new Promise(resolve => setTimeout(resolve, 1_500))

/** Memory of a process's own: pages of program files, which all processes share and the kernel may drop, left out. */
function ownMiB(pid: number | undefined): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

test('an idle agent takes at most 20 MiB of its own above a bare Node', async () => {
  const broker = await StandInBroker.start()
  const agent = new AgentProcess(broker)
  const bare = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)'])
  try {
    const script = join(agent.folder, 'agent.cjs')
    writeFileSync(script, await bundle(new URL('../../agent/main.ts', import.meta.url).pathname, '0.0.0-test'))
    agent.start(script)
    await agent.saw('enrolled')
    await settled()
    expect(ownMiB(agent.pid) - ownMiB(bare.pid)).toBeLessThan(20)
  } finally {
    bare.kill()
    await agent.remove()
    broker.close()
  }
})
