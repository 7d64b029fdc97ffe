/** Files of the user: identity, known brokers, and what stock ssh makes of our ssh_config. */
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Identity } from '../../client/identity/identity.ts'
import { createIdentityFile, readIdentityFile, readPassphraseFile } from '../../client/node/keystore.ts'
import { pinsInFile } from '../../client/node/known-brokers.ts'
import {
  hostAlias,
  jumpHost,
  publicKeyOf,
  sshConfigBlock,
  sshFiles,
  userPublicKey,
  writeKnownHosts,
} from '../../client/node/ssh-files.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { decodeText } from '../../protocol/core/bytes.ts'

/** uid that is nobody's here */
const STRANGER = 54_321
let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-files-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)
const never = () => Promise.reject(new Error('asked for a passphrase'))

describe('the identity file', () => {
  const identity = Identity.create(nobleSuite)

  test('is for its owner only and is never replaced', async () => {
    const path = join(folder, 'new', 'identity')
    await createIdentityFile(path, identity)
    expect([mode(path), mode(join(folder, 'new'))]).toEqual(['600', '700'])
    expect((await readIdentityFile(nobleSuite, path, never)).text).toBe(identity.text)
    const again = createIdentityFile(path, Identity.create(nobleSuite))
    await expect(again).rejects.toMatchObject({ code: 'identity-exists' })
    expect((await readIdentityFile(nobleSuite, path, never)).text).toBe(identity.text)
    expect(readdirSync(join(folder, 'new'))).toEqual(['identity'])
  })

  test('is refused when others can read it, when absent, and when it is something else', async () => {
    const path = join(folder, 'identity')
    await expect(readIdentityFile(nobleSuite, path, never)).rejects.toMatchObject({ code: 'identity-missing' })
    await createIdentityFile(path, identity)
    for (const exposed of [0o640, 0o604, 0o620]) {
      chmodSync(path, exposed)
      await expect(readIdentityFile(nobleSuite, path, never)).rejects.toMatchObject({ code: 'identity-exposed' })
    }
    writeFileSync(path, 'x'.repeat(100_000))
    chmodSync(path, 0o600)
    const invalid = { code: 'identity-invalid', detail: expect.stringContaining(path) }
    await expect(readIdentityFile(nobleSuite, path, never)).rejects.toMatchObject(invalid)
    writeFileSync(path, 'short')
    await expect(readIdentityFile(nobleSuite, path, never)).rejects.toMatchObject(invalid)
    await expect(readIdentityFile(nobleSuite, folder, never)).rejects.toMatchObject({ code: 'identity-invalid' })
  })

  test.skipIf(userInfo().uid !== 0)(
    'is refused when another user wrote it, who then knows every key of it',
    async () => {
      const path = join(folder, 'planted')
      await createIdentityFile(path, identity)
      chownSync(path, STRANGER, STRANGER)
      const reading = readIdentityFile(nobleSuite, path, never)
      await expect(reading).rejects.toMatchObject({ code: 'identity-exposed' })
      await expect(reading).rejects.toThrow('belongs to another user')
    },
  )

  test('that cannot be written says where and why', async () => {
    writeFileSync(join(folder, 'file'), '')
    const below = join(folder, 'file', 'identity')
    const detail = expect.stringContaining(`${below} cannot be written (E`)
    await expect(createIdentityFile(below, identity)).rejects.toMatchObject({ code: 'internal', detail })
    const proc = createIdentityFile('/proc/identity', identity)
    await expect(proc).rejects.toMatchObject({ detail: expect.stringContaining('/proc/identity') })
  })

  test('a passphrase file gives its bytes without the line end', async () => {
    const path = join(folder, 'passphrase')
    for (const text of ['two words', 'two words\n', 'two words\r\n']) {
      writeFileSync(path, text)
      expect(decodeText(await readPassphraseFile(path))).toBe('two words')
    }
    await expect(readPassphraseFile(join(folder, 'none'))).rejects.toMatchObject({ code: 'identity-locked' })
  })
})

test('known brokers are kept by address, and a damaged file is not taken for an empty one', async () => {
  const path = join(folder, 'known-brokers.json')
  const pins = pinsInFile(path)
  const [key, other] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
  expect(await pins.read('http://a')).toBeNull()
  await pins.write('http://a', key)
  await pins.write('http://b', other)
  expect([await pins.read('http://a'), await pins.read('http://b')]).toEqual([key, other])
  expect(await pins.read('constructor')).toBeNull()
  expect(mode(path)).toBe('600')
  for (const damaged of ['', '{', '[]', '{"http://a":"short"}', '{"http://a":1}']) {
    writeFileSync(path, damaged)
    await expect(pins.read('http://a')).rejects.toMatchObject({ code: 'bad-config' })
    await expect(pins.write('http://a', key)).rejects.toMatchObject({ code: 'bad-config' })
  }
})

test('known brokers that others can change are not believed', async () => {
  const path = join(folder, 'known-brokers.json')
  const pins = pinsInFile(path)
  await pins.write('http://a', new Uint8Array(32))
  chmodSync(path, 0o666)
  await expect(pins.read('http://a')).rejects.toMatchObject({ code: 'denied' })
  await expect(pins.addressOf(new Uint8Array(32))).rejects.toMatchObject({ code: 'denied' })
  chmodSync(path, 0o600)
  expect(await pins.addressOf(new Uint8Array(32))).toBe('http://a')
  expect(await pins.addressOf(new Uint8Array(32).fill(1))).toBeNull()
  if (userInfo().uid !== 0) return
  chownSync(path, STRANGER, STRANGER)
  await expect(pins.read('http://a')).rejects.toMatchObject({ code: 'denied' })
})

describe('files for ssh', () => {
  const vm = '11111111-1111-4111-8111-111111111111'
  const hostKey = `ssh-ed25519 ${'A'.repeat(68)}`
  /** what ssh itself understands the configuration to say */
  const understood = (config: string, host: string) => {
    const path = join(folder, 'config')
    writeFileSync(path, config)
    const lines = execFileSync('ssh', ['-G', '-F', path, host], { encoding: 'utf8' }).trim().split('\n')
    return Object.fromEntries(lines.map(line => [line.split(' ')[0], line.slice(line.indexOf(' ') + 1)]))
  }

  test("the user's key is made once, for its owner only", async () => {
    const below = join(folder, 'with space', 'ssh')
    const key = await userPublicKey(below)
    expect(key).toMatch(/^ssh-ed25519 [A-Za-z0-9+/=]+$/)
    expect(await userPublicKey(below)).toBe(key)
    expect([mode(sshFiles(below).key), mode(below)]).toEqual(['600', '700'])
  })

  test('a key whose making was interrupted is completed, at once', async () => {
    const below = join(folder, 'ssh')
    const key = await userPublicKey(below)
    rmSync(`${sshFiles(below).key}.pub`)
    expect(await userPublicKey(below)).toBe(key)
    // the public half of a key that is gone is of no use
    rmSync(sshFiles(below).key)
    const other = await userPublicKey(below)
    expect(other).not.toBe(key)
    expect(readFileSync(`${sshFiles(below).key}.pub`, 'utf8')).toBe(`${other} mortar\n`)
    expect(readdirSync(below).toSorted()).toEqual(['id_ed25519', 'id_ed25519.pub'])
  })

  test('a key that somebody else may have put there is not delivered', async () => {
    const below = join(folder, 'ssh')
    await userPublicKey(below)
    chmodSync(`${sshFiles(below).key}.pub`, 0o666)
    await expect(userPublicKey(below)).rejects.toMatchObject({ code: 'denied' })
  })

  test('made by two at once it is one pair', async () => {
    const below = join(folder, 'ssh')
    const [one, two] = await Promise.all([userPublicKey(below), userPublicKey(below)])
    expect([two, await userPublicKey(below)]).toEqual([one, one])
  })

  test('known hosts hold the keys of this boot under the alias, and nothing that is no key', async () => {
    const alias = hostAlias(vm)
    await writeKnownHosts(folder, alias, [`${hostKey} root@guest`])
    await writeKnownHosts(folder, alias, [`${hostKey} root@guest`])
    expect(readFileSync(sshFiles(folder).knownHosts(alias), 'utf8')).toBe(`${alias} ${hostKey}\n`)
    for (const bad of ['', '@cert-authority * ssh-ed25519 AAAA', 'ssh-ed25519 AAAA\n* ssh-rsa AAAA', 'ssh-dss AAAA']) {
      const written = writeKnownHosts(folder, alias, [bad]).then(() => readFileSync(sshFiles(folder).knownHosts(alias)))
      await written.then(
        bytes => expect(bytes.toString()).toBe(`${alias} ssh-ed25519 AAAA\n`),
        error => expect(error).toMatchObject({ code: 'bad-request' }),
      )
    }
    expect(() => publicKeyOf('ssh-ed25519', 'x')).toThrow()
  })

  test('a VM through this program: strict checking against our file, our key only, no prompt', () => {
    const below = join(folder, 'a b%c')
    const proxyCommand = ['/opt/my programs/mortar', '--broker', 'http://h:1/%7e', 'ssh-proxy', "it's", vm]
    const alias = hostAlias(vm)
    const config = sshConfigBlock(below, {
      names: ['first', alias],
      alias,
      hostName: alias,
      user: 'm7abcdef0',
      proxyCommand,
    })
    for (const name of ['first', alias]) {
      const said = understood(config, name)
      expect(said).toMatchObject({
        hostname: alias,
        hostkeyalias: alias,
        user: 'm7abcdef0',
        identitiesonly: 'yes',
        batchmode: 'yes',
        connecttimeout: '60',
        serveraliveinterval: '20',
        identityfile: `${below.replace('%', '%%')}/id_ed25519`,
        stricthostkeychecking: expect.stringMatching(/^(true|yes)$/),
        updatehostkeys: expect.stringMatching(/^(false|no)$/),
      })
      expect(said.userknownhostsfile).toContain(`${alias}.known_hosts`)
    }
    // what the shell that ssh starts makes of the command, after ssh replaced its tokens
    const command = (understood(config, 'first').proxycommand as string).replaceAll('%%', '%')
    const words = execFileSync('sh', ['-c', `printf '%s\\n' ${command}`], { encoding: 'utf8' })
    expect(words.trimEnd().split('\n')).toEqual(proxyCommand)
  })

  test('a VM through the jump host: both hosts are checked', () => {
    const alias = hostAlias(vm)
    const config = [
      jumpHost('http://[::1]:7766', 7722, 'm7abcdef0'),
      { names: ['first'], alias, hostName: vm, user: 'm7abcdef0', jump: 'mortar-jump' },
    ]
      .map(host => sshConfigBlock(folder, host))
      .join('\n')
    expect(understood(config, 'first')).toMatchObject({ hostname: vm, hostkeyalias: alias, proxyjump: 'mortar-jump' })
    expect(understood(config, 'mortar-jump')).toMatchObject({
      hostname: '::1',
      port: '7722',
      user: 'm7abcdef0',
      hostkeyalias: 'mortar-jump',
      stricthostkeychecking: expect.stringMatching(/^(true|yes)$/),
    })
  })
})
