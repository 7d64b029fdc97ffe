/** The console page as it is served: only what was built, under headers that keep everything else out. */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type PageServer, readPage, servePage } from '../../client/node/page-server.ts'

let folder = ''
let server: PageServer | undefined
const page = { 'index.html': '<!doctype html><script src="main.js"></script>', 'main.js': 'let a', 'style.css': 'a{}' }

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-page-'))
  const lines = Object.entries(page).map(([name, text]) => {
    writeFileSync(join(folder, name), text)
    return `${createHash('sha256').update(text).digest('hex')}  ${name}\n`
  })
  writeFileSync(join(folder, 'hashes.txt'), lines.join(''))
})
afterEach(async () => {
  await server?.close()
  server = undefined
  rmSync(folder, { recursive: true })
})

const start = async () => {
  server = await servePage(await readPage(folder), 'https://broker.example:8443', { host: '127.0.0.1', port: 0 })
  return server.url
}

test('serves the files of the page with their types', async () => {
  const url = await start()
  const index = await fetch(url)
  expect([index.status, index.headers.get('content-type'), await index.text()]).toEqual([
    200,
    'text/html; charset=utf-8',
    page['index.html'],
  ])
  const script = await fetch(`${url}main.js`)
  expect([script.status, script.headers.get('content-type')]).toEqual([200, 'text/javascript; charset=utf-8'])
})

test('serves nothing else', async () => {
  const url = await start()
  writeFileSync(join(folder, 'late.html'), 'late')
  for (const path of ['late.html', '../etc/passwd', '..%2f..%2fetc/passwd', 'main.js/', '%00', 'MAIN.JS', '//']) {
    expect([path, (await fetch(url + path)).status]).toEqual([path, 404])
  }
  expect((await fetch(url, { method: 'POST', body: 'x' })).status).toBe(405)
})

test('every answer, refusals too, lets the page load and reach nothing but itself and its broker', async () => {
  const url = await start()
  for (const path of ['', 'main.js', 'absent']) {
    const { headers } = await fetch(url + path)
    const policy = headers.get('content-security-policy')?.split('; ')
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("script-src 'self'")
    expect(policy).toContain("frame-ancestors 'none'")
    expect(policy).toContain("require-trusted-types-for 'script'")
    expect(policy).toContain("trusted-types 'none'")
    expect(policy).toContain('connect-src https://broker.example:8443 wss://broker.example:8443')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('referrer-policy')).toBe('no-referrer')
  }
})

test('a file that was changed after the build is not served', async () => {
  writeFileSync(join(folder, 'main.js'), 'let b')
  await expect(readPage(folder)).rejects.toMatchObject({ code: 'denied' })
  writeFileSync(join(folder, 'main.js'), page['main.js'])
  writeFileSync(join(folder, 'added.js'), 'x')
  await expect(readPage(folder)).rejects.toMatchObject({ code: 'denied' })
  rmSync(join(folder, 'added.js'))
  rmSync(join(folder, 'hashes.txt'))
  await expect(readPage(folder)).rejects.toMatchObject({ code: 'denied' })
})

test('no page, or a port that is taken, is told by name', async () => {
  await expect(readPage(join(folder, 'none'))).rejects.toMatchObject({ code: 'not-found' })
  const { port } = new URL(await start())
  const second = servePage(await readPage(folder), 'http://b', { host: '127.0.0.1', port: Number(port) })
  await expect(second).rejects.toMatchObject({ code: 'port-taken', detail: `127.0.0.1:${port}` })
})
