/** Somebody outside who poses as a VM: keys of their own, under a one-use key that was stolen, at a real broker. */
import { openJoined } from '../../agent/control/websocket.ts'
import { launchSeed } from '../../protocol/channel/derive.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { type ToAgent, toAgentSchema } from '../../protocol/control/enrolment.ts'
import { decodeHex } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { serveSession } from '../../protocol/session.ts'
import { ControlEnd, newBoot } from '../broker/sockets.ts'
import type { Hands } from './person.ts'
import { noHandlers, wallClock } from './session-pair.ts'

export class Thief {
  /** sessions in which the VM's owner took the thief for the VM */
  met = 0
  readonly #hands: Hands
  readonly #vm: Vm
  readonly #control: ControlEnd
  readonly #agents: string
  readonly #boot = newBoot(2)

  private constructor(hands: Hands, vm: Vm, control: ControlEnd, agents: string) {
    this.#hands = hands
    this.#vm = vm
    this.#control = control
    this.#agents = agents
    // as long as it is connected, not as long as a test waits for a message
    control.socket.on('message', data => {
      const message = toAgentSchema.parse(JSON.parse(data.toString()))
      if (message.type === 'offer') void this.#answer(message)
    })
  }

  /**
   * Enrols as the next boot of a VM of `hands`. `seed`: the one-use seed that was stolen; the launch secret's when absent.
   * `agents`: origin where agents are taken; `from`: the address it comes from. Resolves once the broker has answered.
   */
  static async pose(
    hands: Hands,
    vm: Vm,
    { agents, seed, from }: { agents: string; seed?: Uint8Array; from?: string },
  ) {
    const thief = new Thief(hands, vm, new ControlEnd(agents, vm.id, from), agents)
    return { thief, told: await thief.#enrol(seed ?? thief.#launchSeed()) }
  }

  /** The seed that the launch secret yields: whoever once read it has it, as fw_cfg shows it at every reboot. */
  #launchSeed(): Uint8Array {
    return launchSeed(suite, this.#hands.identity.launchSecret(this.#vm.id, this.#vm.launch))
  }

  async #enrol(seed: Uint8Array): Promise<'enrolled' | 'refused'> {
    const { id, launch, brickSha256 } = this.#vm
    const ticket = { vm: id, launch, brick: decodeHex(brickSha256) } as never
    const none = new Uint8Array(0)
    const by = { ...newBoot(), nextSeed: new Uint8Array(seed) }
    await this.#control.enrol({ ticket, signed: none, secret: none }, this.#boot, { by })
    const told = await Promise.race([this.#control.next('enrolled'), this.#control.next('refused')])
    return told.type
  }

  /** Offers itself as the VM to whoever comes for it. Never fails. */
  async #answer({ session, token }: Extract<ToAgent, { type: 'offer' }>): Promise<void> {
    const { identity, broker } = this.#hands
    const { id, launch } = this.#vm
    try {
      await serveSession({
        transport: await openJoined(`${this.#agents.replace(/^http/, 'ws')}/v1/agent`, token),
        suite,
        clock: wallClock,
        facts: { broker: await broker.key(), vm: id, launch, session },
        agentKeys: this.#boot.keys,
        agentSign: signingPublicKey(this.#boot.seed),
        ownerDh: identity.keys.publicKey,
        launchSecret: identity.launchSecret(id, launch),
        nextBoot: () => signingPublicKey(this.#boot.nextSeed),
        handlers: noHandlers,
        guest: undefined,
        admit: onlyOwner(),
        onReady: () => {
          this.met++
        },
      })
    } catch {
      // the client did not take it for the VM
    }
  }

  leave(): void {
    this.#control.socket.terminate()
  }
}

/** The seed of the next boot, as whoever reads the VM's disk finds it. */
export const seedOfDisk = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64')).slice(0, 32)

/** The six words of the boot that runs, as the VM's own console has them. */
export function wordsOnConsole(console: string): string {
  const lines = console.split('\n').filter(line => line.includes('"enrolled"'))
  return /"words":"([a-z ]+)"/.exec(lines.at(-1) ?? '')?.[1] ?? ''
}
