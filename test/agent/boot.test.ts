/** What the agent reads at its start: boot data, the keys of this boot, its configuration. SPEC §2.3 */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readBootData } from '../../agent/boot/boot-data.ts'
import { bootKeys, type SeedStore } from '../../agent/boot/boot-keys.ts'
import { parseConfig } from '../../agent/config.ts'
import { FEATURES } from '../../protocol/control/roles.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { newLaunch } from '../processes/agent-people.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-boot-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

describe('boot data', () => {
  const launch = newLaunch()
  const write = (files: Record<string, Uint8Array | string> = {}) => {
    const all = {
      'mortar.ticket': launch.signed,
      'mortar.secret': launch.launchSecret,
      'mortar.broker': '{"url":"ws://10.0.2.2:7766/v1/agent"}',
      ...files,
    }
    for (const [name, content] of Object.entries(all)) writeFileSync(join(folder, name), content)
  }

  test('a ticket long expired is good: guests reboot late and clocks may be wrong', () => {
    write()
    const data = readBootData(folder, suite)
    expect(data.ticket.vm).toBe(launch.ticket.vm)
    expect(data.brokerUrl).toBe('ws://10.0.2.2:7766/v1/agent')
    expect(Buffer.from(launch.launchSecret).equals(data.launchSecret)).toBe(true)
  })

  const changed = launch.signed.slice()
  changed[60] = (changed[60] as number) ^ 1
  test.each([
    ['a changed ticket', { 'mortar.ticket': changed }, 'ticket-invalid'],
    ['the secret of another launch', { 'mortar.secret': randomBytes(32) }, 'ticket-invalid'],
    ['a short secret', { 'mortar.secret': randomBytes(31) }, 'bad-config'],
    ['a long secret', { 'mortar.secret': randomBytes(33) }, 'bad-config'],
    ['an address that is none', { 'mortar.broker': '{"url":"file:///etc/passwd"}' }, 'bad-config'],
    ['an unknown member', { 'mortar.broker': '{"url":"ws://h/v1/agent","x":1}' }, 'bad-config'],
    ['no JSON', { 'mortar.broker': 'ws://h' }, 'bad-config'],
  ])('%s is refused', (_name, files, code) => {
    write(files)
    expect(() => readBootData(folder, suite)).toThrow(expect.objectContaining({ code }))
  })

  test('a missing file is named', () => {
    expect(() => readBootData(folder, suite)).toThrow(/mortar\.ticket/)
  })
})

describe('boot keys', () => {
  const memory = (): SeedStore => {
    let kept: Uint8Array | null = null
    return {
      read: () => kept?.slice() ?? null,
      write(seed) {
        kept = seed.slice()
        return true
      },
    }
  }

  test('stay the same within a boot and are new at the next', () => {
    const store = memory()
    const [first, again, next] = [bootKeys(suite, store), bootKeys(suite, store), bootKeys(suite, memory())]
    expect(again.dh.publicKey).toEqual(first.dh.publicKey)
    expect(again.signPublicKey).toEqual(first.signPublicKey)
    expect(next.dh.publicKey).not.toEqual(first.dh.publicKey)
    expect(first.kept).toBe(true)
  })

  test('live in the process alone where nothing keeps them', () => {
    const keys = bootKeys(suite, { read: () => null, write: () => false })
    expect(keys.kept).toBe(false)
    expect(keys.signSeed.buffer.byteLength).toBeGreaterThanOrEqual(128)
  })
})

describe('configuration', () => {
  test('has defaults, which allow nothing', () => {
    expect(parseConfig('', 'agent.toml')).toEqual({ homes: '/home', features: [] })
  })

  test('the brick’s own file is valid', () => {
    const path = new URL('../../images/debian-12/tree/etc/mortar/agent.toml', import.meta.url)
    expect(parseConfig(readFileSync(path, 'utf8'), 'agent.toml')).toEqual({
      homes: '/home',
      features: [...FEATURES],
    })
  })

  test.each([
    ['hoems = "/x"', /hoems/],
    ['\nfeatures = [', /agent\.toml:2/],
    ['features = ["fly"]', /features/],
    ['homes = "here"', /homes/],
  ])('%j is refused, naming what is wrong', (toml, named) => {
    expect(() => parseConfig(toml, 'agent.toml')).toThrow(named)
    expect(() => parseConfig(toml, 'agent.toml')).toThrow(expect.objectContaining({ code: 'bad-config' }))
  })
})
