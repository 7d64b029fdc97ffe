/** Debian's Chromium for tests of the console page, and a watch on what a page must never do. */
import { createServer } from 'node:net'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { describeUnless, missingOf } from '../support/possible.ts'

export type { Browser, Page }

const NEEDED: Readonly<Record<string, string>> = { '/usr/bin/chromium': 'chromium', '/usr/bin/qemu-img': 'qemu-utils' }
const FLAGS = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** runs in the page; as text, for these tests are typed for Node */
const TELL_REFUSED = `addEventListener('securitypolicyviolation', event =>
  tellRefused([event.effectiveDirective, event.blockedURI, event.sourceFile, event.lineNumber].join(' ')))`

/** A describe() whose tests are skipped, with the reason in its name, where there is no Chromium. */
export function describeBrowser(name: string, tests: () => void): void {
  describeUnless(missingOf(NEEDED), name, tests)
}

export function launchChromium(): Promise<Browser> {
  // its sandbox does not run for root
  return chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, chromiumSandbox: false, args: FLAGS })
}

export interface Watched {
  readonly page: Page
  readonly context: BrowserContext
  /** addresses asked for that are neither the page's nor the broker's */
  readonly foreign: readonly string[]
  /** what the page's policy refused */
  readonly refused: readonly string[]
  /** exceptions that nobody caught */
  readonly uncaught: readonly string[]
  close(): Promise<void>
}

/** Opens a page in a profile of its own. `allowed`: origins it may ask, http and ws. */
export async function openWatched(browser: Browser, url: string, allowed: readonly string[]): Promise<Watched> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
  const page = await context.newPage()
  const foreign: string[] = []
  const refused: string[] = []
  const uncaught: string[] = []
  const check = (address: string) => {
    if (address.startsWith('data:')) return
    if (!allowed.includes(new URL(address).origin.replace(/^ws/, 'http'))) foreign.push(address)
  }
  page.on('request', request => check(request.url()))
  page.on('websocket', socket => check(socket.url()))
  page.on('pageerror', error => uncaught.push(String(error)))
  await page.exposeFunction('tellRefused', (what: string) => void refused.push(what))
  await page.addInitScript({ content: TELL_REFUSED })
  await page.goto(url)
  return { page, context, foreign, refused, uncaught, close: () => context.close() }
}

/** Logs in with an identity file's path or bytes. */
export async function logIn(page: Page, identity: string | Uint8Array, passphrase?: string): Promise<void> {
  const file =
    typeof identity === 'string'
      ? identity
      : { name: 'identity', mimeType: 'application/octet-stream', buffer: Buffer.from(identity) }
  await page.getByLabel('Identity file').setInputFiles(file)
  if (passphrase !== undefined) await page.getByLabel('Passphrase').fill(passphrase)
  await page.getByRole('button', { name: 'Log in' }).click()
}

/** A port of the loopback that was free a moment ago: the broker must know the console's origin before it runs. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}
