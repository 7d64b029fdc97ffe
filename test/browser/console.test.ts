/** The console page in Chromium against a real broker: log-in, lists, errors, and what the page must never do. */
import { rm } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { Identity } from '../../client/identity/identity.ts'
import { encryptIdentityFile, formatIdentityFile } from '../../client/identity/identity-file.ts'
import { nodeHost } from '../../client/node/host.ts'
import { encodeBase64url, encodeText } from '../../protocol/core/bytes.ts'
import { type ConsolePage, startConsole } from '../support/console.ts'
import { Machine } from '../support/machine.ts'
import { handsOf } from '../support/person.ts'
import {
  type Browser,
  describeBrowser,
  freePort,
  launchChromium,
  logIn,
  openWatched,
  type Page,
  type Watched,
} from './chromium.ts'
import { makeTinyBrick, type TinyBrick } from './tiny-brick.ts'

/** quick to try, unlike what people's files have */
const WORK_FACTOR = 4
const PASSPHRASE = 'correct horse battery staple'
const PINS = 'mortar known brokers v1'

describeBrowser('the console page', () => {
  let machine: Machine
  let brick: TinyBrick
  let console_: ConsolePage
  let browser: Browser
  let watched: Watched
  let page: Page
  const owner = () => machine.people.owner
  const problem = (code: string) => page.locator(`.problem[data-code="${code}"]`)

  beforeAll(async () => {
    brick = await makeTinyBrick('debian-12')
    const port = await freePort()
    machine = await Machine.start({
      bare: true,
      origins: [`http://127.0.0.1:${port}`],
      config: `builders = ["${brick.builder}"]\nlibvirt_socket = "/nowhere/libvirt-sock"\n`,
    })
    await machine.must(machine.people.administrator, ['brick', 'import', brick.imagePath])
    console_ = await startConsole(machine, owner(), `127.0.0.1:${port}`)
    browser = await launchChromium()
  })
  afterAll(async () => {
    await browser?.close()
    console_?.stop()
    await machine?.dispose()
    if (brick) await rm(brick.folder, { recursive: true, force: true })
  })
  beforeEach(async () => {
    watched = await openWatched(browser, console_.url, [new URL(console_.url).origin, machine.url])
    page = watched.page
    page.setDefaultTimeout(60_000)
  })
  afterEach(async () => {
    const { foreign, refused, uncaught } = watched
    await watched.close()
    // every test is also a test of these
    expect({ foreign, refused, uncaught }).toEqual({ foreign: [], refused: [], uncaught: [] })
  })

  test('comes with a policy that allows its own files and its broker alone', async () => {
    const response = await page.request.get(console_.url)
    const policy = response.headers()['content-security-policy'] ?? ''
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("script-src 'self';")
    expect(policy).toContain(`connect-src ${machine.url} ${machine.url.replace(/^http/, 'ws')};`)
    expect(policy).not.toContain('unsafe-eval')
    // Chromium runs nothing that was written into the page, and lets no code make HTML or scripts of text
    const tried = await page.evaluate(`[
      () => { const script = document.createElement('script'); script.append('document.title = "injected"'); document.head.append(script) },
      () => { document.createElement('script').textContent = 'document.title = "injected"' },
      () => { document.createElement('div').innerHTML = '<img src=x onerror="document.title = 1">' },
    ].map(attempt => { try { attempt(); return 'done' } catch { return 'refused' } })`)
    expect(tried).toEqual(['done', 'refused', 'refused'])
    await expect.poll(() => watched.refused.length).toBe(3)
    expect(await page.title()).toBe('Mortar')
    ;(watched.refused as string[]).splice(0)
  })

  test('a user logs in with an identity file and sees the bricks', async () => {
    await logIn(page, owner().identityPath)
    const row = page.locator('[data-brick="debian-12"]')
    await row.waitFor()
    expect(await row.innerText()).toMatch(/12\.0\s+64 MiB/)
    await page.getByText('You have no VM yet.').waitFor()
    await expect.poll(() => page.getByLabel('Brick', { exact: true }).inputValue()).toBe('debian-12')
  })

  test('an identity that the broker does not know is told so, with what to do', async () => {
    const stranger = Identity.create(nodeHost.suite)
    await logIn(page, formatIdentityFile(stranger))
    await problem('identity-wrong').waitFor()
    const text = await problem('identity-wrong').innerText()
    expect(text).toContain('The signature does not belong to a user of this broker')
    expect(text).toContain('Ask the operator to add your public identity')
    expect(await page.getByRole('button', { name: 'Log in' }).isVisible()).toBe(true)
  })

  test('a file that is no identity is refused before anything is sent', async () => {
    const requests: string[] = []
    page.on('request', request => requests.push(request.url()))
    await logIn(page, encodeText('not an identity\n'))
    expect(await problem('identity-invalid').innerText()).toContain('this is not an identity file')
    expect(requests).toEqual([])
  })

  test('a file with a passphrase asks for it, says when it is wrong, and opens with the right one', async () => {
    const { identity } = await handsOf(machine, owner())
    const file = await encryptIdentityFile(identity, encodeText(PASSPHRASE), WORK_FACTOR)
    await logIn(page, file, 'wrong')
    await problem('identity-locked').waitFor()
    expect(await problem('identity-locked').innerText()).toContain('the passphrase is wrong')
    expect(await page.getByLabel('Passphrase').inputValue()).toBe('')
    await page.getByLabel('Passphrase').fill(PASSPHRASE)
    await page.keyboard.press('Enter')
    await page.locator('[data-brick="debian-12"]').waitFor()
  })

  test('keeps the key of the broker and nothing else, and forgets the person at log-out', async () => {
    await logIn(page, owner().identityPath)
    await page.locator('[data-brick="debian-12"]').waitFor()
    const kept = () => page.evaluate('({ local: { ...localStorage }, session: { ...sessionStorage } })')
    const { identity, broker } = await handsOf(machine, owner())
    const known = { [PINS]: JSON.stringify({ [machine.url]: encodeBase64url(await broker.key()) }) }
    expect(await kept()).toEqual({ local: known, session: {} })
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByRole('heading', { name: 'Log in' }).waitFor()
    const text = await page.locator('body').innerText()
    expect(text).not.toContain('debian-12')
    expect(text).not.toContain(encodeBase64url(identity.signKey).slice(0, 8))
    expect(await kept()).toEqual({ local: known, session: {} })
    expect(await watched.context.cookies()).toEqual([])
  })

  test('a log-in that is under way when the page is left does not keep the identity', async () => {
    let goOn = () => {}
    const held = new Promise<void>(resolve => {
      goOn = resolve
    })
    await page.route('**/v1/login', async route => {
      await held
      await route.continue()
    })
    const asked = page.waitForRequest('**/v1/login')
    await logIn(page, owner().identityPath)
    await asked
    await page.evaluate("dispatchEvent(new Event('pagehide'))")
    goOn()
    await problem('login-expired').waitFor()
    expect(await page.locator('[data-brick]').count()).toBe(0)
    await page.unroute('**/v1/login')
  })

  test('a broker with another key than the known one is refused until the person forgets the known one', async () => {
    const other = { [machine.url]: encodeBase64url(new Uint8Array(32).fill(7)) }
    await page.evaluate(`localStorage.setItem('${PINS}', '${JSON.stringify(other)}')`)
    await logIn(page, owner().identityPath)
    await problem('broker-mismatch').waitFor()
    expect(await page.locator('[data-brick]').count()).toBe(0)
    await page.getByRole('button', { name: 'Forget the known key' }).click()
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.locator('[data-brick="debian-12"]').waitFor()
  })

  test('an address that the page may not talk to is said to be one', async () => {
    await page.getByLabel('Broker').fill('http://127.0.0.1:9')
    await logIn(page, owner().identityPath)
    await problem('broker-unreachable').waitFor()
    expect(await problem('denied').innerText()).toContain('connect-src')
    await expect.poll(() => watched.refused.length).toBe(1)
    ;(watched.refused as string[]).splice(0)
    // Chromium reports the request that it then does not send
    ;(watched.foreign as string[]).splice(0)
  })

  test('a launch that fails says what, why and what to do, and leaves no VM', async () => {
    await logIn(page, owner().identityPath)
    const form = page.getByRole('form', { name: 'Launch a VM' })
    await form.getByLabel('Name').fill('first')
    await form.getByRole('button', { name: 'Launch' }).click()
    await problem('libvirt-down').waitFor()
    const text = await problem('libvirt-down').innerText()
    expect(text).toContain('libvirt does not answer')
    expect(text).toContain('/nowhere/libvirt-sock')
    expect(text).toContain('Start libvirtd')
    await page.getByText('You have no VM yet.').waitFor()
    // a name that the broker would refuse does not leave the form
    await form.getByLabel('Name').fill('Not A Name')
    await form.getByRole('button', { name: 'Launch' }).click()
    expect(await form.locator('input:invalid').count()).toBe(1)
  })

  test('a drive is created, and deleted only after a question that names it', async () => {
    await logIn(page, owner().identityPath)
    await page.getByRole('button', { name: 'Create a drive' }).click()
    const form = page.getByRole('form', { name: 'Create a drive' })
    await form.getByLabel('Drive name').fill('data')
    await form.getByLabel('Size').fill('64')
    await form.getByLabel('Unit').selectOption('MiB')
    await form.getByRole('button', { name: 'Create' }).click()
    const row = page.locator('[data-drive="data"]')
    await row.waitFor()
    expect(await row.innerText()).toMatch(/64 MiB\s+none\s+blank/)
    await row.getByRole('button', { name: 'Delete data' }).click()
    await page.getByRole('dialog', { name: 'Delete the drive data?' }).waitFor()
    // Enter is Cancel
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    expect(await row.count()).toBe(1)
    await row.getByRole('button', { name: 'Delete data' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Delete data' }).click()
    await row.waitFor({ state: 'detached' })
  })

  test('a broker that goes away is told, and the page goes on when it is back', async () => {
    await logIn(page, owner().identityPath)
    await page.locator('[data-brick="debian-12"]').waitFor()
    await machine.stopBroker('SIGKILL')
    await problem('broker-unreachable').waitFor()
    await page.getByText('What is shown may be old').waitFor()
    await machine.startBroker()
    // its logins are gone with it: the page logs in again by itself
    await problem('broker-unreachable').waitFor({ state: 'detached' })
    await page.locator('[data-brick="debian-12"]').waitFor()
  })

  test('every control has a name, and the keyboard alone is enough', async () => {
    await logIn(page, owner().identityPath)
    await page.getByRole('button', { name: 'Create a drive' }).press('Enter')
    await page.getByLabel('Drive name').waitFor()
    const nameless = await page.evaluate(`[...document.querySelectorAll('button, input, select, a')]
      .filter(item => !(item.labels?.length || item.ariaLabel || item.textContent.trim()))
      .map(item => item.outerHTML)`)
    expect(nameless).toEqual([])
    await page.getByLabel('Drive name').focus()
    await page.keyboard.type('by-keys')
    await page.keyboard.press('Enter')
    const row = page.locator('[data-drive="by-keys"]')
    await row.waitFor()
    await row.getByRole('button', { name: 'Delete by-keys' }).press('Enter')
    await page.getByRole('dialog', { name: 'Delete the drive by-keys?' }).waitFor()
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await row.waitFor({ state: 'detached' })
  })
})
