/** The console page and a real VM: two clicks to a shell, a command, and a drive whose key only the page makes. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  type Browser,
  describeBrowser,
  freePort,
  launchChromium,
  logIn,
  openWatched,
  type Page,
  type Watched,
} from '../browser/chromium.ts'
import { type ConsolePage, startConsole } from '../support/console.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'

const BOOT_MS = 240_000

describeGuest('in the browser', () =>
  describeBrowser('the console page', () => {
    let machine: Machine
    let served: ConsolePage
    let browser: Browser
    let watched: Watched
    let page: Page
    const owner = () => machine.people.owner
    const card = (title: string) => page.getByRole('region', { name: title, exact: true })
    const drive = () => page.locator('[data-drive="data"]')

    beforeAll(async () => {
      const port = await freePort()
      machine = await Machine.start({ origins: [`http://127.0.0.1:${port}`] })
      served = await startConsole(machine, owner(), `127.0.0.1:${port}`)
      browser = await launchChromium()
      watched = await openWatched(browser, served.url, [new URL(served.url).origin, machine.url])
      page = watched.page
      page.setDefaultTimeout(60_000)
    })
    afterAll(async () => {
      await browser?.close()
      served?.stop()
      await machine?.dispose()
    })

    test('launches a VM, which proves itself to the page and becomes ready', async () => {
      await logIn(page, owner().identityPath)
      const form = page.getByRole('form', { name: 'Launch a VM' })
      await form.getByLabel('Name').fill('lab')
      await form.getByLabel('Brick', { exact: true }).selectOption(machine.brickName)
      await form.getByLabel('Memory (MiB)').fill('768')
      await form.getByRole('button', { name: 'Launch' }).click()
      await page.getByRole('heading', { name: 'lab' }).waitFor()
      await page.getByText('Waiting for lab to enrol').waitFor()
      await page.getByText('The VM proved at first contact').waitFor({ timeout: BOOT_MS })
      await page.locator('.title .state', { hasText: 'ready' }).waitFor()
      await page.getByText('Certified by you for this boot.').waitFor()
      expect(await card('Facts').innerText()).toMatch(/\n10\.\d+\.\d+\.\d+\n/)
      expect(await card('Events').innerText()).toMatch(/ready.*booting/s)
    })

    test('runs a command: output, errors and exit code apart', async () => {
      const run = card('Run a command')
      await run.getByLabel('Command').fill(`printf '%s|' 'a b' $HOME`)
      await run.getByRole('button', { name: 'Run', exact: true }).click()
      await run.locator('[data-exit="exit code 0"]').waitFor()
      expect(await run.getByLabel('Output').innerText()).toBe('a b|$HOME|')
      await run.getByLabel('Through sh -c').check()
      await run.getByLabel('Command').fill('echo out; echo oops >&2; exit 3')
      await run.getByLabel('Command').press('Enter')
      await run.locator('[data-exit="exit code 3"]').waitFor()
      expect(await run.locator('.stdout').innerText()).toBe('out\n')
      expect(await run.locator('.stderr').innerText()).toBe('oops\n')
    })

    test('a command that does not exist is told so, and one that hangs is stopped', async () => {
      const run = card('Run a command')
      await run.getByLabel('Through sh -c').uncheck()
      await run.getByLabel('Command').fill('no-such-program')
      await run.getByLabel('Command').press('Enter')
      expect(await run.locator('.problem[data-code="exec-not-found"]').innerText()).toContain('no-such-program')
      await run.getByLabel('Command').fill('sleep 600')
      await run.getByLabel('Command').press('Enter')
      await run.getByRole('button', { name: 'Stop the command' }).click()
      await run.locator('[data-exit="ended by SIGTERM"]').waitFor()
    })

    test('opens a terminal that echoes, follows its size, and says how the shell ended', async () => {
      const terminal = card('Terminal')
      await terminal.getByRole('button', { name: 'Open a terminal' }).click()
      const rows = terminal.locator('.xterm-rows')
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toMatch(/[$#]/)
      await page.keyboard.type('echo "typed $((6 * 7)) here"\n')
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toContain('typed 42 here')
      await page.keyboard.type('clear; stty size\n')
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toMatch(/^\d+ \d+\s*$/m)
      const before = await rows.innerText()
      await page.setViewportSize({ width: 1100, height: 900 })
      await page.keyboard.type('clear; echo now; stty size\n')
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toMatch(/^now\s*\n\d+ \d+\s*$/m)
      const size = (text: string) => /^(\d+) (\d+)\s*$/m.exec(text)?.slice(1).map(Number) ?? []
      expect(size(await rows.innerText())[1]).toBeLessThan(size(before)[1] ?? 0)
      await page.keyboard.type('exit 7\n')
      await terminal.getByText('The shell ended: exit code 7.').waitFor()
      await page.setViewportSize({ width: 1280, height: 900 })
    })

    test('a terminal that is closed ends its shell', async () => {
      const terminal = card('Terminal')
      await terminal.getByRole('button', { name: 'Open a terminal' }).click()
      const rows = terminal.locator('.xterm-rows')
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toMatch(/[$#]/)
      await page.keyboard.type('exec sleep 4711\n')
      const sleeping = () => machine.mortar(owner(), ['exec', 'lab', '--', 'pgrep', '-f', '^sleep 4711'])
      await expect.poll(async () => (await sleeping()).code, { timeout: 60_000, interval: 1_000 }).toBe(0)
      // Tab belongs to the shell; this key leads out
      await page.keyboard.press('Control+F6')
      await page.keyboard.press('Enter')
      await terminal.getByRole('button', { name: 'Open a terminal' }).waitFor()
      await expect.poll(async () => (await sleeping()).code, { timeout: 60_000, interval: 1_000 }).toBe(1)
    })

    test('a terminal goes on when the broker was killed and is back', async () => {
      const terminal = card('Terminal')
      await terminal.getByRole('button', { name: 'Open a terminal' }).click()
      const rows = terminal.locator('.xterm-rows')
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toMatch(/[$#]/)
      await page.keyboard.type('kept=$((40 + 2)); echo "last $kept words"\n')
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toContain('last 42 words')
      await machine.stopBroker('SIGKILL')
      const lost = card('Connection').getByText('The connection was lost; connecting again')
      await lost.waitFor()
      expect(await rows.innerText()).toContain('last 42 words')
      await terminal.locator('.screen').click()
      await page.keyboard.type('echo "still $kept"\n')
      await machine.startBroker()
      await lost.waitFor({ state: 'detached', timeout: 60_000 })
      await expect.poll(() => rows.innerText(), { timeout: 60_000 }).toContain('still 42')
      await page.keyboard.type('exit 7\n')
      await terminal.getByText('The shell ended: exit code 7.').waitFor()
    })

    test('a lost session in which nothing runs is told, and is opened again', async () => {
      await machine.stopBroker('SIGKILL')
      await card('Connection').locator('.problem[data-code="connection-lost"]').waitFor()
      await machine.startBroker()
      await page.getByText('What is shown may be old').waitFor({ state: 'detached' })
      // the agent dials again within its back-off; until then the page says that it is not connected
      await expect
        .poll(
          async () => {
            await page.getByRole('button', { name: 'Connect', exact: true }).click()
            await card('Connection').locator('.connected, .problem').waitFor()
            return card('Connection').innerText()
          },
          { timeout: 60_000, interval: 2_000 },
        )
        .toContain('The VM proved the key that you certified.')
    })

    test('creates, attaches, formats, unlocks, locks and detaches a drive', async () => {
      await page.getByRole('button', { name: 'Create a drive' }).click()
      const form = page.getByRole('form', { name: 'Create a drive' })
      await form.getByLabel('Drive name').fill('data')
      await form.getByLabel('Size').fill('64')
      await form.getByLabel('Unit').selectOption('MiB')
      await form.getByRole('button', { name: 'Create' }).click()
      await drive().getByRole('button', { name: 'Attach data' }).click()
      await drive().getByRole('button', { name: 'Format and unlock data' }).click()
      await drive().getByText('unlocked at /drives/data').waitFor({ timeout: 120_000 })
      await machine.inVm(owner(), 'lab', ['sh', '-c', 'echo kept > /drives/data/note'])
      await drive().getByRole('button', { name: 'Lock data' }).click()
      await drive().getByRole('button', { name: 'Unlock data' }).click()
      await drive().getByText('unlocked at /drives/data').waitFor({ timeout: 60_000 })
      expect(await machine.inVm(owner(), 'lab', ['cat', '/drives/data/note'])).toBe('kept\n')
      await drive().getByRole('button', { name: 'Lock data' }).click()
      await drive().getByRole('button', { name: 'Detach data' }).click()
      await drive().getByRole('button', { name: 'Attach data' }).waitFor()
    })

    test('another log-in trusts the certificate, and deletes the VM after a question that names it', async () => {
      await page.getByRole('button', { name: 'Log out' }).click()
      await logIn(page, owner().identityPath)
      // the address still names the VM
      await page.getByRole('button', { name: 'Connect', exact: true }).click()
      await page.getByText('The VM proved the key that you certified.').waitFor()
      await card('Console log').getByRole('button', { name: 'Show the console log' }).click()
      await card('Console log').getByLabel('Console log', { exact: true }).waitFor()
      await page.getByRole('button', { name: 'Delete lab' }).click()
      await page.getByRole('dialog', { name: 'Delete lab?' }).getByRole('button', { name: 'Delete lab' }).click()
      await page.getByText('You have no VM yet.').waitFor({ timeout: 60_000 })
    })

    test('through all of it the page asked nobody else and broke no rule of its policy', () => {
      const { foreign, refused, uncaught } = watched
      expect({ foreign, refused, uncaught }).toEqual({ foreign: [], refused: [], uncaught: [] })
    })
  }),
)
