/**
 * Mutated transport records in bulk. At the cipher that opens them: none may open, and the next true one must. At a channel:
 * none may open, nor may anything behind it, and the transport is closed. SPEC §6.1
 */
import { CipherState } from '../../protocol/channel/cipher-state.ts'
import type { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { concat } from '../../protocol/core/bytes.ts'
import { channelPair } from '../support/bare-end.ts'
import { flipBit } from './bytes.ts'
import { brokenSuite, Random } from './random.ts'
import { count, newTally, type Tally } from './tally.ts'

const MUTATIONS_PER_RECORD = 500
const SIZES = [1, 8, 24, 64, 200, 1_000, 4_000]

type Mutation = (record: Uint8Array, random: Random, other: Uint8Array) => Uint8Array

const MUTATIONS: readonly Mutation[] = [
  (record, random) => flipBit(record, random.below(record.length * 8)),
  (record, random) => {
    let changed = record
    for (let i = 2 + random.below(7); i > 0; i--) changed = flipBit(changed, random.below(record.length * 8))
    return changed
  },
  (record, random) => {
    const changed = record.slice()
    changed[random.below(record.length)] = random.below(256)
    return changed
  },
  (record, random) => record.slice(0, random.below(record.length)),
  (record, random) => concat(record, random.bytes(1 + random.below(40))),
  // the tag of another record, no tag, a guessed one
  (record, _random, other) => concat(record.subarray(0, -16), other.subarray(-16)),
  record => concat(record.subarray(0, -16), new Uint8Array(16)),
  (record, random) => concat(record.subarray(0, -16), random.bytes(16)),
  // another record of the same key, whole and in part
  (_record, _random, other) => other.slice(),
  (record, random, other) => {
    const changed = record.slice()
    const at = random.below(Math.min(record.length, other.length))
    changed.set(other.subarray(at, Math.min(record.length, other.length)), at)
    return changed
  },
  (record, random) => random.bytes(record.length),
]

/** Tries `times` mutations of records under fresh keys. */
export function runRecords(suite: Suite, times: number, seed: string, broken = false): Tally {
  const tally = newTally('mutate transport records')
  const random = new Random(`${seed}/records`)
  const used = broken ? brokenSuite(suite) : suite
  while (tally.tried < times) {
    const key = random.bytes(32)
    const [sealing, opening] = [new CipherState(used.algorithms, key), new CipherState(used.algorithms, key)]
    const plaintext = random.bytes(random.pick(SIZES))
    // some way into the session, as an attacker finds it
    for (let i = random.below(4); i > 0; i--) opening.open(sealing.seal(plaintext))
    const record = sealing.seal(plaintext)
    const other = sealing.seal(random.bytes(random.pick(SIZES)))
    for (let i = 0; i < MUTATIONS_PER_RECORD && tally.tried < times; i++) {
      const mutated = random.pick(MUTATIONS)(record, random, other)
      if (Buffer.compare(mutated, record) === 0) continue
      const opened = tryOpen(opening, mutated)
      if (opened === null) {
        tally.tried++
        tally.detected++
      } else count(tally, false, opened.length, `${seed}/records/${tally.tried}`)
    }
    if (!broken && !Buffer.from(opening.open(record)).equals(plaintext)) {
      throw new Error('the true record no longer opens after the false ones')
    }
  }
  return tally
}

/** Tries `times` mutations of records, each at a channel of its own, between records that are true. */
export async function runChannelRecords(suite: Suite, times: number, seed: string, broken = false): Promise<Tally> {
  const tally = newTally('mutate records of a channel')
  const random = new Random(`${seed}/channels`)
  const used = broken ? brokenSuite(suite) : suite
  while (tally.tried < times) {
    const name = `${seed}/channels/${tally.tried}`
    const { clientEnd, agentEnd, clientChannel, agentChannel } = await channelPair({ suite: used })
    const toClient = random.below(2) === 0
    const [reader, writer] = toClient ? [clientChannel, agentChannel] : [agentChannel, clientChannel]
    const [near, end] = toClient ? [clientEnd, agentEnd] : [agentEnd, clientEnd]
    let closed = false
    const close = near.close
    near.close = () => {
      closed = true
      close()
    }
    const before = random.below(3)
    const packets: Uint8Array[] = []
    const deliver = end.send
    end.send = packet => void packets.push(packet.slice())
    for (let i = before + 2; i > 0; i--) writer.send(random.bytes(random.pick(SIZES)))
    const [record, other] = packets.slice(before) as [Uint8Array, Uint8Array]
    const mutated = random.pick(MUTATIONS)(record, random, other)
    if (Buffer.from(mutated).equals(record)) continue
    for (const packet of [...packets.slice(0, before), mutated, record, other]) deliver(packet)
    for (let i = 0; i < before; i++) if (!(await reader.receive())) throw new Error('a true record did not open')
    const [refusals, bytes] = await refusalsOf(reader)
    count(tally, refusals === 3 && closed, bytes, name)
    writer.close()
  }
  return tally
}

/** How many of the three packets that are there the channel refuses, and bytes of plaintext that it lets through. */
async function refusalsOf(channel: SecureChannel): Promise<[number, number]> {
  let [refusals, bytes] = [0, 0]
  for (let i = 0; i < 3; i++) {
    try {
      bytes += (await channel.receive())?.length ?? 0
    } catch {
      refusals++
    }
  }
  return [refusals, bytes]
}

function tryOpen(cipher: CipherState, record: Uint8Array): Uint8Array | null {
  try {
    return cipher.open(record)
  } catch {
    return null
  }
}
