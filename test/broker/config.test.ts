/** The configuration file: each mistake is told with file, line and key. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readConfig } from '../../broker/config.ts'
import { brokerSeed, openDataDir } from '../../broker/data-dir.ts'
import { openDatabase } from '../../broker/store/database.ts'
import { Identity } from '../../client/identity.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'

const folder = mkdtempSync(join(tmpdir(), 'mortar-config-test-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const path = join(folder, 'broker.toml')

function read(text: string) {
  writeFileSync(path, text)
  return readConfig(path)
}

/** What reading the text fails with. */
function refusal(text: string): string {
  try {
    read(text)
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(MortarError)
    expect((thrown as MortarError).code).toBe('bad-config')
    return (thrown as MortarError).detail
  }
  throw new Error('it was taken')
}

test('a good file is taken, every key of it', () => {
  const identity = Identity.create(nobleSuite)
  const builder = encodeBase64url(new Uint8Array(32).fill(3))
  const config = read(`
# a comment
data_dir = "/srv/mortar"
listen = "[::1]:0"
ssh_listen = ""
agent_url = "wss://broker.example/v1/agent"
origins = ["https://console.example", "http://127.0.0.1:7780"]
users = ["${identity.text}"]
administrators = ["${identity.text}"]
builders = ["${builder}"]
enrol_within_seconds = 60
libvirt_socket = "/run/libvirt/libvirt-sock"
`)
  expect(config).toMatchObject({
    dataDir: '/srv/mortar',
    listen: { host: '::1', port: 0 },
    sshListen: null,
    enrolWithinMs: 60_000,
    origins: ['https://console.example', 'http://127.0.0.1:7780'],
  })
  expect([...config.users]).toEqual([encodeBase64url(identity.signKey)])
})

test('without a file, and for an empty one, everything is at its default', () => {
  expect(read('')).toEqual(readConfig(undefined))
  expect(readConfig(undefined).listen).toEqual({ host: '127.0.0.1', port: 7766 })
})

const good = '\n# two lines first\n'
test.each([
  ['broken TOML', 'listen = "127.0.0.1:1\n', /broker\.toml:3: /],
  ['a key twice', 'listen = "127.0.0.1:1"\nlisten = "127.0.0.1:2"\n', /broker\.toml:4: /],
  ['bytes that are no text', '\0\0\0', /broker\.toml:3: /],
  ['an unknown key', 'lisen = "127.0.0.1:1"\n', /broker\.toml:3: lisen: there is no such key/],
  ['an unknown key of signs', '"a(b[" = 1\n', /broker\.toml:3: a\(b\[: there is no such key/],
  ['an unknown table', '[http]\nport = 1\n', /broker\.toml:3: http: there is no such key/],
  ['a wrong type', 'listen = 7766\n', /broker\.toml:3: listen: /],
  ['an address without port', 'listen = "127.0.0.1"\n', /broker\.toml:3: listen: needs ADDRESS:PORT/],
  ['a name for an address', 'listen = "localhost:7766"\n', /broker\.toml:3: listen: needs ADDRESS:PORT/],
  ['an address that is none', 'ssh_listen = "999.0.0.1:22"\n', /broker\.toml:3: ssh_listen: /],
  ['a port that is none', 'listen = "127.0.0.1:65536"\n', /broker\.toml:3: listen: needs ADDRESS:PORT/],
  ['a relative folder', 'data_dir = "data"\n', /broker\.toml:3: data_dir: needs an absolute path/],
  ['a bad identity', 'users = ["mortar1abc"]\n', /broker\.toml:3: users\[0\]: needs a public identity/],
  ['an identity that is not text', 'administrators = [1]\n', /broker\.toml:3: administrators\[0\]: /],
  ['a bad builder', 'builders = ["AAAA"]\n', /broker\.toml:3: builders\[0\]: needs 32 bytes/],
  ['a time out of range', 'enrol_within_seconds = 0\n', /broker\.toml:3: enrol_within_seconds: /],
  ['a time of half a second', 'enrol_within_seconds = 1.5\n', /broker\.toml:3: enrol_within_seconds: /],
  ['an agent URL of another kind', 'agent_url = "http://10.0.2.2"\n', /broker\.toml:3: agent_url: needs ws/],
  [
    'an origin with a path',
    'origins = ["https://console.example/"]\n',
    /broker\.toml:3: origins\[0\]: needs a web origin/,
  ],
  ['every origin', 'origins = ["*"]\n', /broker\.toml:3: origins\[0\]: needs a web origin/],
])('%s is refused with its place', (_what, text, expected) => {
  expect(refusal(good + text)).toMatch(expected)
})

test('a file that cannot be read says so', () => {
  for (const bad of [join(folder, 'nothing.toml'), folder]) {
    expect(() => readConfig(bad)).toThrow(
      expect.objectContaining({ code: 'bad-config', detail: expect.stringContaining(`${bad} cannot be read`) }),
    )
  }
})

test('a data folder, key or database that will not do is bad-config', () => {
  const badConfig = (what: string) =>
    expect.objectContaining({ code: 'bad-config', detail: expect.stringContaining(what) })
  expect(() => openDataDir(path)).toThrow(badConfig(path))
  const dataDir = openDataDir(join(folder, 'data'))
  const seed = brokerSeed(dataDir)
  expect(brokerSeed(dataDir)).toEqual(seed)
  writeFileSync(join(dataDir.root, 'broker.key'), 'short')
  expect(() => brokerSeed(dataDir)).toThrow(badConfig('does not hold 32 bytes'))
  writeFileSync(dataDir.database, 'this is no database but text, and long enough to be looked at as one'.repeat(20))
  expect(() => openDatabase(dataDir.database)).toThrow(badConfig('file is not a database'))
  rmSync(dataDir.database)
  const newer = openDatabase(dataDir.database)
  newer.exec('PRAGMA user_version = 99')
  newer.close()
  expect(() => openDatabase(dataDir.database)).toThrow(badConfig('newer version'))
})
