/**
 * The relay's attacks, as a table. Each is played many times at random places of a session, from handshake to close, and
 * must be noticed by its victim before one more byte of plaintext reaches the application. SPEC §5, §6
 */
import type { Suite } from '../../protocol/channel/suite.ts'
import { encodeText } from '../../protocol/core/bytes.ts'
import { facts } from '../support/session-pair.ts'
import { flipBit, LOW_ORDER_POINTS } from './bytes.ts'
import type { Random } from './random.ts'
import { type Attack, type End, honest, otherEnd, type Play, type Relay, type StageOptions } from './stage.ts'

/** A play to be: how the stage is set and what the relay does. */
interface Scene {
  readonly options?: Partial<StageOptions>
  readonly attack: Attack
}

export interface AttackRow {
  readonly name: string
  /** `session`: a whole honest session between the same two ends, as the relay recorded it */
  scene(random: Random, session: Play): Scene
  /** why an attack of this kind is noticed even where nothing is encrypted; then there is no control on a broken channel */
  readonly noControl?: string
}

type Change = (packet: Uint8Array, random: Random, session: Play, from: End, index: number) => readonly Uint8Array[]

/** A fault at one packet on its way to the other end. */
function onTheWay(name: string, change: Change, more: Partial<AttackRow> = {}): AttackRow {
  return {
    name,
    ...more,
    scene(random, session) {
      const { from, index } = place(random, session)
      const victim = otherEnd(from)
      return {
        attack: {
          fault: { from, index, victim },
          carry: (sender, i, packet) =>
            (sender === from && i === index ? change(packet, random, session, from, index) : [packet]).map(
              carried => [otherEnd(sender), carried] as const,
            ),
        },
      }
    },
  }
}

/** Any packet but the client's last, after which nobody listens. */
function place(random: Random, session: Play): { from: End; index: number } {
  const from = random.pick(['client', 'agent'] as const)
  return { from, index: random.below(session.packets[from] - (from === 'client' ? 1 : 0)) }
}

/** The client was told something else than the agent; what it then says is the fault. */
function toldOtherwise(name: string, bend: (random: Random) => Partial<StageOptions>): AttackRow {
  return {
    name,
    scene: random => ({
      options: bend(random),
      attack: { ...honest, fault: { from: 'client', index: 0, victim: 'agent' } },
    }),
  }
}

const PROLOGUE_LABEL = encodeText('mortar channel')

/** The suite of an end that hashes another prologue: `edit` gets what follows the label. */
function withPrologue(edit: (rest: Uint8Array) => void): (suite: Suite) => Suite {
  return suite => ({
    ...suite,
    algorithms: {
      ...suite.algorithms,
      hash(message) {
        const at = Buffer.from(message).indexOf(PROLOGUE_LABEL)
        if (at < 0) return suite.algorithms.hash(message)
        const edited = message.slice()
        edit(edited.subarray(at + PROLOGUE_LABEL.length))
        return suite.algorithms.hash(edited)
      },
    },
  })
}

/** PING and GOAWAY as they would look without a channel around them: what nobody would miss, and an orderly end. */
const FORGED_PING = Uint8Array.from([2, ...new Array<number>(7 + 16).fill(0)])
const FORGED_END = Uint8Array.from([4, ...new Array<number>(7 + 16).fill(0)])

const spliced = (session: Play, from: End, index: number): Uint8Array => {
  const sent = session.transcript.filter(item => item.from === from)
  return (sent[index] ?? sent[sent.length - 1])?.packet ?? new Uint8Array(0)
}

export const ATTACKS: readonly AttackRow[] = [
  onTheWay('alter a packet', (packet, random) => [flipBit(packet, random.below(packet.length * 8))]),
  onTheWay('drop a packet', () => []),
  duplicate(),
  onTheWay('insert a packet', (packet, random) => [
    random.below(2) === 0 ? FORGED_PING : random.bytes(24 + random.below(600)),
    packet,
  ]),
  onTheWay('shorten a packet', (packet, random) => [packet.subarray(0, random.below(packet.length))], {
    noControl: 'frames and payloads say their own length',
  }),
  reorder(),
  truncate(),
  onTheWay('splice two sessions', (_packet, _random, session, from, index) => [spliced(session, from, index)]),
  replay('replay a session to the agent', 'client'),
  replay('replay a session to the client', 'agent'),
  reflect(),
  toldOtherwise('swap session ids', random => ({ clientFacts: { ...facts, session: random.uuid() } })),
  toldOtherwise('roll the version back', random => ({
    bendClient: withPrologue(rest => {
      // what follows the label: length in two bytes, then the versions offered
      rest[2] = ((rest[2] as number) + 1 + random.below(255)) & 0xff
    }),
  })),
  toldOtherwise('edit the prologue: broker', random => ({ clientFacts: { ...facts, broker: random.bytes(32) } })),
  toldOtherwise('edit the prologue: VM', random => ({ clientFacts: { ...facts, vm: random.uuid() } })),
  toldOtherwise('edit the prologue: launch', random => ({ clientFacts: { ...facts, launch: random.uuid() } })),
  toldOtherwise('edit the prologue: any bit', random => {
    const choice = random.word()
    return {
      bendClient: withPrologue(rest => {
        const bit = choice % (rest.length * 8)
        rest[bit >> 3] = (rest[bit >> 3] as number) ^ (1 << (bit & 7))
      }),
    }
  }),
  {
    name: 'send a point of low order',
    scene(random) {
      const from = random.pick(['client', 'agent'] as const)
      const point = Buffer.from(random.pick(LOW_ORDER_POINTS), 'hex')
      return {
        attack: {
          fault: { from, index: 0, victim: otherEnd(from) },
          carry(sender, index, packet) {
            if (sender === from && index === 0) packet.set(point)
            return [[otherEnd(sender), packet]]
          },
        },
      }
    },
  },
]

/** A packet comes a second time, before the next one of its direction. */
function duplicate(): AttackRow {
  return {
    name: 'duplicate a packet',
    scene(random, session) {
      const from = random.pick(['client', 'agent'] as const)
      const index = random.below(session.packets[from] - 1)
      let first: Uint8Array | undefined
      return {
        attack: {
          fault: { from, index: index + 1, victim: otherEnd(from) },
          carry(sender, i, packet) {
            if (sender === from && i === index) first = packet
            const again = sender === from && i === index + 1 && first ? [first, packet] : [packet]
            return again.map(carried => [otherEnd(sender), carried] as const)
          },
        },
      }
    },
  }
}

/** A packet is held back until the next one of its direction has passed. */
function reorder(): AttackRow {
  return {
    name: 'reorder packets',
    scene(random, session) {
      const from = random.pick(['client', 'agent'] as const)
      const index = random.below(session.packets[from] - 1)
      let held: Uint8Array | undefined
      return {
        attack: {
          fault: { from, index: index + 1, victim: otherEnd(from) },
          carry(sender, i, packet) {
            if (sender === from && i === index) {
              held = packet
              return []
            }
            const carried = [[otherEnd(sender), packet] as const]
            if (sender !== from || !held) return carried
            carried.push([otherEnd(from), held])
            held = undefined
            return carried
          },
        },
      }
    },
  }
}

/** The session is cut short behind a forged end. */
function truncate(): AttackRow {
  return {
    name: 'truncate a session',
    scene(random, session) {
      const { from, index } = place(random, session)
      let cut = false
      return {
        attack: {
          fault: { from, index, victim: otherEnd(from) },
          carry(sender, i, packet, relay: Relay) {
            if (cut) return []
            if (sender !== from || i !== index) return [[otherEnd(sender), packet]]
            cut = true
            relay.deliver(otherEnd(from), FORGED_END)
            relay.cut()
            return []
          },
        },
      }
    },
  }
}

/** All that one end said in an earlier session is said again to the other, from the first packet on. */
function replay(name: string, speaker: End): AttackRow {
  return {
    name,
    scene(_random, session) {
      const victim = otherEnd(speaker)
      const recorded = session.transcript.filter(item => item.from === speaker)
      return {
        attack: {
          // the agent speaks only when spoken to: the client's first packet is the occasion
          fault: { from: 'client', index: 0, victim },
          carry(sender, index) {
            if (sender !== 'client') return []
            // to the agent all at once, to the client as its questions come
            const said = speaker === 'agent' ? recorded.slice(index, index + 1) : index === 0 ? recorded : []
            return said.map(({ packet }) => [victim, packet] as const)
          },
        },
      }
    },
  }
}

/** A packet comes back to who sent it. */
function reflect(): AttackRow {
  return {
    name: 'reflect a packet',
    scene(random, session) {
      const { from, index } = place(random, session)
      return {
        attack: {
          fault: { from, index, victim: from },
          carry: (sender, i, packet) => [[sender === from && i === index ? from : otherEnd(sender), packet]],
        },
      }
    },
  }
}
