/** mortar-broker as a program: start, ports that are taken, kill -9, memory when idle. */
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { Identity } from '../../client/identity/identity.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { runProgram } from '../support/program.ts'
import { BrokerProcess } from './broker-support.ts'

const ANY_PORTS = 'listen = "127.0.0.1:0"\nssh_listen = "127.0.0.1:0"\n'
const BINARY = new URL('../../build/mortar-broker', import.meta.url).pathname
const MAIN = new URL('../../broker/main.ts', import.meta.url).pathname
const IDLE_BYTES = 90 * 2 ** 20

let broker: BrokerProcess | undefined
afterEach(() => broker?.remove())

/** A port that somebody listens on until the test ends. */
async function takenPort(): Promise<{ port: number; free: () => void }> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { port: (server.address() as { port: number }).port, free: () => server.close() }
}

describe('mortar-broker serve', () => {
  test('says where it listens, ends in order, and keeps its key', async () => {
    broker = new BrokerProcess(ANY_PORTS)
    const first = await broker.start()
    expect(first.listening).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect(first.ssh).toMatch(/^127\.0\.0\.1:\d+$/)
    expect(await broker.stop('SIGTERM')).toBe(0)
    expect((await broker.start()).id).toBe(first.id)
    expect(await broker.stop('SIGINT')).toBe(0)
    for (const line of broker.stderr.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('event')
  })

  test('keeps what it knows when it is killed', async () => {
    const identity = Identity.create(nobleSuite)
    broker = new BrokerProcess(`${ANY_PORTS}users = ["${identity.text}"]\n`)
    const api = ({ listening }: { listening: string }) =>
      new BrokerApi({ url: listening, identity, pins: pinsInMemory() })
    const first = api(await broker.start())
    const drive = await first.createDrive({
      id: '11111111-1111-4111-8111-111111111111',
      name: 'kept',
      sizeBytes: 2 ** 24,
      note: 'noted',
    })
    await broker.stop('SIGKILL')
    expect(await api(await broker.start()).drives()).toEqual([drive])
    expect(existsSync(join(broker.folder, 'data', 'drives', `${drive.id}.raw`))).toBe(true)
  })

  test.each(['listen', 'ssh_listen'])('says port-taken with the address of %s and exits with 1', async key => {
    const { port, free } = await takenPort()
    broker = new BrokerProcess(
      ANY_PORTS.replace(`${key === 'listen' ? '' : 'ssh_'}listen = "127.0.0.1:0"`, `${key} = "127.0.0.1:${port}"`),
    )
    const outcome = await runProgram(
      process.execPath,
      [MAIN, 'serve', '--config', join(broker.folder, 'broker.toml')],
      { timeoutMs: 60_000 },
    )
    free()
    expect([outcome.code, outcome.stdout]).toEqual([1, ''])
    expect(outcome.stderr).toContain(
      `The address is already in use: 127.0.0.1:${port}\n  → Stop the program that holds it`,
    )
  })

  test('an address that is not of this host is told as such', async () => {
    broker = new BrokerProcess(ANY_PORTS.replace('127.0.0.1:0', '203.0.113.1:0'))
    await expect(broker.start()).rejects.toThrow(/The address cannot be listened on: 203\.0\.113\.1:0: no interface/)
  })

  test.skipIf(process.getuid?.() !== 0 || !existsSync('/usr/sbin/libvirtd'))(
    "does not start where QEMU's user cannot reach its data, and config check says so too",
    async () => {
      broker = new BrokerProcess(ANY_PORTS)
      chmodSync(broker.folder, 0o700)
      const config = join(broker.folder, 'broker.toml')
      for (const command of [['serve'], ['config', 'check'], ['doctor']]) {
        const { code, stderr } = await runProgram(process.execPath, [MAIN, ...command, '--config', config])
        expect([code, stderr]).toEqual([1, expect.stringContaining(`chmod o+x ${broker.folder}\n`)])
      }
    },
  )

  test('a second one over the same data says so and exits with 1', async () => {
    broker = new BrokerProcess(ANY_PORTS)
    await broker.start()
    const outcome = await runProgram(
      process.execPath,
      [MAIN, 'serve', '--config', join(broker.folder, 'broker.toml')],
      { timeoutMs: 60_000 },
    )
    expect([outcome.code, outcome.stdout]).toEqual([1, ''])
    expect(outcome.stderr).toContain(`Another broker uses the data directory: ${join(broker.folder, 'data')}`)
  })

  test('a bad configuration is told with file, line and key, by serve and by config check', async () => {
    broker = new BrokerProcess('lisen = "127.0.0.1:0"\n')
    const path = join(broker.folder, 'broker.toml')
    for (const command of [['serve'], ['config', 'check']]) {
      const { code, stderr } = await runProgram(process.execPath, [MAIN, ...command, '--config', path])
      expect([code, stderr]).toEqual([1, expect.stringContaining(`${path}:5: lisen: there is no such key`)])
    }
    writeFileSync(path, `data_dir = "${broker.folder}/data"\n${ANY_PORTS}`)
    expect((await runProgram(process.execPath, [MAIN, 'config', 'check', '--config', path])).code).toBe(0)
    expect((await runProgram(process.execPath, [MAIN, 'serve', '--no-such-option'])).code).toBe(2)
    expect((await runProgram(process.execPath, [MAIN, 'dance'])).code).toBe(2)
  })
})

test('the binary needs at most 90 MiB when idle', async ({ skip }) => {
  if (!existsSync(BINARY)) skip(`${BINARY} is not built`)
  broker = new BrokerProcess(ANY_PORTS, [BINARY])
  const { listening } = await broker.start()
  for (let i = 0; i < 20; i++) await (await fetch(`${listening}/v1/broker`)).json()
  await new Promise(resolve => setTimeout(resolve, 1000))
  const bytes = broker.rssBytes
  console.info(`mortar-broker idle: ${(bytes / 2 ** 20).toFixed(1)} MiB resident`)
  expect(bytes).toBeLessThanOrEqual(IDLE_BYTES)
})
