/** The configuration file: each mistake is told with file, line and key. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readConfig } from '../../broker/config.ts'
import { brokerSeed, openDataDir } from '../../broker/data-dir.ts'
import { requireEntry } from '../../broker/hypervisor/storage-access.ts'
import { openDatabase } from '../../broker/store/database.ts'
import { Identity } from '../../client/identity/identity.ts'
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
network = "user"
subnet = "10.200.16.0/20"
agent_listen = "127.0.0.1:7000"
origins = ["https://console.example", "http://127.0.0.1:7780"]
users = ["${identity.text}"]
administrators = ["${identity.text}"]
builders = ["${builder}"]
lock_memory = false
enrol_within_seconds = 60
libvirt_socket = "/run/libvirt/libvirt-sock"
`)
  expect(config).toMatchObject({
    dataDir: '/srv/mortar',
    listen: { host: '::1', port: 0 },
    sshListen: null,
    network: 'user',
    subnet: { first: 10 * 2 ** 24 + 200 * 2 ** 16 + 16 * 2 ** 8, bits: 20 },
    agentListen: { host: '127.0.0.1', port: 7000 },
    locksMemory: false,
    enrolWithinMs: 60_000,
    origins: ['https://console.example', 'http://127.0.0.1:7780'],
  })
  expect([...config.users]).toEqual([encodeBase64url(identity.signKey)])
})

test('without a file, and for an empty one, everything is at its default', () => {
  expect(read('')).toEqual(readConfig(undefined))
  expect(readConfig(undefined).listen).toEqual({ host: '127.0.0.1', port: 7766 })
  expect(readConfig(undefined).network).toBe('isolated')
})

const good = '\n# two lines first\n'
test.each([
  ['broken TOML', 'listen = "127.0.0.1:1\n', /broker\.toml:3: /],
  ['a key twice', 'listen = "127.0.0.1:1"\nlisten = "127.0.0.1:2"\n', /broker\.toml:4: /],
  ['bytes that are no text', '\0\0\0', /broker\.toml:3: /],
  ['an unknown key', 'lisen = "127.0.0.1:1"\n', /broker\.toml:3: lisen: there is no such key/],
  ['an unknown key of signs', '"a(b[" = 1\n', /broker\.toml:3: a\(b\[: there is no such key/],
  ['an unknown table', '[http]\nport = 1\n', /broker\.toml:3: http: there is no such key/],
  ['a wrong type', 'listen = 7766\n', /broker\.toml:3: listen: needs text in quotation marks$/],
  ['a text for a list', 'users = ""\n', /broker\.toml:3: users: needs a list/],
  ['an address without port', 'listen = "127.0.0.1"\n', /broker\.toml:3: listen: needs ADDRESS:PORT/],
  ['a name for an address', 'listen = "localhost:7766"\n', /broker\.toml:3: listen: needs ADDRESS:PORT/],
  [
    'an address that is none',
    'ssh_listen = "999.0.0.1:22"\n',
    /broker\.toml:3: ssh_listen: needs ADDRESS:PORT, or "" for none$/,
  ],
  ['a port that is none', 'listen = "127.0.0.1:65536"\n', /broker\.toml:3: listen: needs ADDRESS:PORT/],
  ['a relative folder', 'data_dir = "data"\n', /broker\.toml:3: data_dir: needs an absolute path/],
  ['a bad identity', 'users = ["mortar1abc"]\n', /broker\.toml:3: users\[0\]: needs a public identity/],
  ['an identity that is not text', 'administrators = [1]\n', /broker\.toml:3: administrators\[0\]: /],
  ['a bad builder', 'builders = ["AAAA"]\n', /broker\.toml:3: builders\[0\]: needs 32 bytes/],
  ['a time too short', 'enrol_within_seconds = 0\n', /broker\.toml:3: enrol_within_seconds: must be at least 1$/],
  ['a time too long', 'enrol_within_seconds = 90000\n', /enrol_within_seconds: must be at most 86400$/],
  [
    'a time of half a second',
    'enrol_within_seconds = 1.5\n',
    /broker\.toml:3: enrol_within_seconds: needs a whole number$/,
  ],
  ['a network of another kind', 'network = "bridge"\n', /broker\.toml:3: network: needs "isolated" or "user"/],
  ['a network too large', 'subnet = "10.0.0.0/8"\n', /broker\.toml:3: subnet: needs an IPv4 network/],
  ['a network by an address within it', 'subnet = "10.0.0.1/20"\n', /broker\.toml:3: subnet: needs an IPv4 network/],
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
  for (const [bad, why] of [
    [join(folder, 'nothing.toml'), 'is not there'],
    [folder, 'is a folder'],
  ]) {
    expect(() => readConfig(bad)).toThrow(expect.objectContaining({ code: 'config-missing', detail: `${bad} ${why}` }))
  }
})

test('a data folder, key or database that will not do is told as such', () => {
  const unusable = (what: string) =>
    expect.objectContaining({ code: 'data-unusable', detail: expect.stringContaining(what) })
  expect(() => openDataDir(path)).toThrow(unusable(`${path} is not a directory`))
  // Node's own recursive mkdir never ends there
  expect(() => openDataDir('/proc/mortar/data')).toThrow(unusable('/proc/mortar cannot be made'))
  const dataDir = openDataDir(join(folder, 'data'))
  const seed = brokerSeed(dataDir)
  expect(brokerSeed(dataDir)).toEqual(seed)
  writeFileSync(join(dataDir.root, 'broker.key'), 'short')
  expect(() => brokerSeed(dataDir)).toThrow(unusable('does not hold 32 bytes'))
  writeFileSync(dataDir.database, 'this is no database but text, and long enough to be looked at as one'.repeat(20))
  expect(() => openDatabase(dataDir.database)).toThrow(unusable('file is not a database'))
  rmSync(dataDir.database)
  const newer = openDatabase(dataDir.database)
  newer.exec('PRAGMA user_version = 99')
  newer.close()
  expect(() => openDatabase(dataDir.database)).toThrow(unusable('newer version'))
})

test('folders of the broker are open to QEMU whatever the umask', () => {
  const before = process.umask(0o077)
  try {
    openDataDir(join(folder, 'made', 'data'))
  } finally {
    process.umask(before)
  }
  for (const made of ['made', 'made/data', 'made/data/vms']) {
    expect(statSync(join(folder, made)).mode & 0o777, made).toBe(0o711)
  }
})

test.skipIf(process.getuid?.() !== 0)(
  "a folder that is closed to QEMU's user is named, with the way to open it",
  () => {
    const closed = join(folder, 'closed')
    const dataDir = join(closed, 'broker')
    mkdirSync(dataDir, { recursive: true })
    chmodSync(folder, 0o711)
    chmodSync(closed, 0o700)
    // one that is not made yet, too
    for (const target of [dataDir, join(closed, 'later', 'broker')]) {
      expect(() => requireEntry(target, 'nobody')).toThrow(
        expect.objectContaining({
          code: 'storage-denied',
          detail: `nobody cannot enter ${closed}; run: chmod o+x ${closed}`,
        }),
      )
      expect(() => requireEntry(target, 'root')).not.toThrow()
      expect(() => requireEntry(target, 'no-such-user')).not.toThrow()
    }
    chmodSync(closed, 0o711)
    requireEntry(dataDir, 'nobody')
  },
)
