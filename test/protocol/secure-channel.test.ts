/** The channel after a bad record: nothing more goes either way, and both transports are closed. SPEC §5, §6.1 */
import { describe, expect, test } from 'vitest'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { BACKENDS } from '../support/backends.ts'
import { bothEnds, channelPair } from '../support/bare-end.ts'

const invalid = { code: 'record-invalid' }

describe.each(Object.entries(BACKENDS))('%s', (_name, { suite }) => {
  /** a record that was changed, and true ones behind it that are under way already */
  async function afterBadRecord() {
    const pair = await channelPair({ suite })
    const { clientEnd, agentEnd, agentChannel } = pair
    const sent: Uint8Array[] = []
    const from = agentEnd.send
    agentEnd.send = packet => void sent.push(packet.slice())
    for (let i = 0; i < 3; i++) agentChannel.send(Uint8Array.of(i))
    const bad = (sent[0] as Uint8Array).slice()
    bad[0] = (bad[0] as number) ^ 1
    for (const packet of [bad, ...sent]) from(packet)
    await expect(pair.clientChannel.receive()).rejects.toMatchObject(invalid)
    return { ...pair, clientEnd }
  }

  test('what comes behind a bad record is refused too, though it is true', async () => {
    const { clientChannel } = await afterBadRecord()
    for (let i = 0; i < 3; i++) await expect(clientChannel.receive()).rejects.toMatchObject(invalid)
    // and so is the end of the transport
    await expect(clientChannel.receive()).rejects.toMatchObject(invalid)
  })

  test('nothing is sealed any more after a bad record', async () => {
    const { clientChannel } = await afterBadRecord()
    expect(() => clientChannel.send(Uint8Array.of(1))).toThrow(expect.objectContaining(invalid))
  })

  test('a bad record closes the transport, and the other end gets no reason', async () => {
    const { agentEnd, agentChannel } = await afterBadRecord()
    expect(await agentEnd.receive()).toBeNull()
    expect(await agentChannel.receive()).toBeNull()
  })

  test('a channel that was closed here neither sends nor receives', async () => {
    const { agentChannel, clientChannel } = await channelPair({ suite })
    agentChannel.send(Uint8Array.of(1))
    clientChannel.close()
    expect(() => clientChannel.send(Uint8Array.of(1))).toThrow(expect.objectContaining({ code: 'connection-lost' }))
    await expect(clientChannel.receive()).rejects.toMatchObject({ code: 'connection-lost' })
  })

  test.each([0, 1, 15])('%d bytes are no record', async length => {
    const { agentEnd, clientChannel } = await channelPair({ suite })
    agentEnd.send(new Uint8Array(length))
    await expect(clientChannel.receive()).rejects.toMatchObject(invalid)
  })

  test('a record holds as many bytes as the limit and no more', async () => {
    const { agentChannel, clientChannel } = await channelPair({ suite })
    agentChannel.send(new Uint8Array(LIMITS.recordPlaintextBytes))
    expect(await clientChannel.receive()).toHaveLength(LIMITS.recordPlaintextBytes)
    const longer = new Uint8Array(LIMITS.recordPlaintextBytes + 1)
    expect(() => agentChannel.send(longer)).toThrow(expect.objectContaining({ code: 'limit-exceeded' }))
  })
})

test('the agent lets in nobody whom its rule refuses, the owner included, and says no reason', async () => {
  const { client, agent, clientEnd } = bothEnds()
  const seen: unknown[] = []
  const admit = (caller: { kind: string }) => {
    seen.push(caller.kind)
    throw new MortarError('denied', 'nobody today')
  }
  const accepting = SecureChannel.accept({ ...agent, admit })
  accepting.catch(() => undefined)
  const channel = await SecureChannel.open(client)
  await expect(accepting).rejects.toMatchObject({ code: 'handshake', cause: { code: 'denied' } })
  expect(seen).toEqual(['owner'])
  expect(await clientEnd.receive()).toBeNull()
  expect(await channel.receive()).toBeNull()
})
