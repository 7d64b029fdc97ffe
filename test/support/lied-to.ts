/**
 * People whose broker lies: a real broker over the hypervisor in memory, a real agent as a process, and `mortar` as a process that
 * reaches the broker through the lying proxy alone.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatIdentityFile } from '../../client/identity/identity-file.ts'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { AGENT_PATH, type Vm } from '../../protocol/control/api.ts'
import { type PersonName, Rig } from '../broker/rig.ts'
import { AgentProcess } from '../processes/agent-support.ts'
import { type LyingProxy, lyingProxy } from './lying-proxy.ts'
import { type Outcome, runProgram } from './program.ts'

const MAIN = new URL('../../client/cli/main.ts', import.meta.url).pathname

export class LiedTo {
  readonly folder = mkdtempSync(join(tmpdir(), 'mortar-lies-'))
  readonly rig: Rig
  readonly proxy: LyingProxy
  readonly #agents: AgentProcess[] = []

  private constructor(rig: Rig, proxy: LyingProxy) {
    this.rig = rig
    this.proxy = proxy
    for (const [name, identity] of Object.entries(rig.people)) {
      mkdirSync(join(this.folder, name), { mode: 0o700 })
      writeFileSync(join(this.folder, name, 'identity'), formatIdentityFile(identity), { mode: 0o600 })
    }
  }

  /** `origins`: where a console page that talks to the broker is served. */
  static async start(origins: readonly string[] = []): Promise<LiedTo> {
    const rig = await Rig.start({ origins: [...origins] })
    return new LiedTo(rig, await lyingProxy(rig.broker.origin))
  }

  /** A VM of the owner's, whose agent is a process here and dials the broker itself. */
  async launch(name: string): Promise<{ vm: Vm; agent: AgentProcess }> {
    const { owner } = this.rig.people
    const { ticket } = this.rig.sign()
    const secret = new Uint8Array(owner.launchSecret(ticket.vm, ticket.launch))
    const launch = {
      ...this.rig.sign({ ...ticket, commitment: launchCommitment(nobleSuite, secret) }),
      secret,
    }
    const { status, json } = await this.rig.post(launch, name)
    if (status !== 200) throw new Error(JSON.stringify(json))
    const url = `${this.rig.network.origin.replace(/^http/, 'ws')}${AGENT_PATH}?vm=${ticket.vm}`
    const agent = new AgentProcess({ url, launch: { signed: launch.signed, launchSecret: secret } })
    this.#agents.push(agent)
    await agent.start().saw('enrolled')
    await this.must('owner', ['vm', 'wait', name])
    return { vm: await this.rig.vm(ticket.vm), agent }
  }

  /** Public identity, mortar1…. */
  identity(who: PersonName): string {
    return this.rig.people[who].text
  }

  /** Runs the command to its end, without a terminal. */
  mortar(who: PersonName, args: readonly string[], input = ''): Promise<Outcome> {
    return runProgram(process.execPath, [MAIN, ...args], { env: this.environment(who), input })
  }

  async must(who: PersonName, args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.mortar(who, args)
    if (code !== 0) throw new Error(`mortar ${args.join(' ')} ended with ${code}: ${stderr}`)
    return stdout
  }

  environment(who: PersonName): Record<string, string> {
    return { MORTAR_BROKER: this.proxy.url, MORTAR_IDENTITY: join(this.folder, who, 'identity'), HOME: this.folder }
  }

  async close(): Promise<void> {
    await Promise.all(this.#agents.map(agent => agent.remove()))
    this.proxy.close()
    await this.rig.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
