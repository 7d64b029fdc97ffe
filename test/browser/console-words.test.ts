/** The console page before a lying broker: what it says is done is on the word of who did it, and it offers what may be done. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { formatIdentityFile } from '../../client/identity/identity-file.ts'
import { type PageServer, readPage, servePage } from '../../client/node/page-server.ts'
import { bundlePage } from '../../images/bundle.ts'
import type { PersonName } from '../broker/rig.ts'
import { LiedTo } from '../support/lied-to.ts'
import { type Browser, describeBrowser, freePort, launchChromium, logIn, openWatched, type Page } from './chromium.ts'

describeBrowser('the console page before a broker that lies', () => {
  let folder: string
  let world: LiedTo
  let vm: string
  let server: PageServer
  let browser: Browser
  let url: string
  const pages: { close(): Promise<void> }[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mortar-console-words-'))
    await bundlePage(new URL('../../client/web', import.meta.url).pathname, join(folder, 'page'))
    const port = await freePort()
    world = await LiedTo.start([`http://127.0.0.1:${port}`])
    vm = (await world.launch('lab')).vm.id
    server = await servePage(await readPage(join(folder, 'page')), world.proxy.url, { host: '127.0.0.1', port })
    url = `${server.url}#broker=${encodeURIComponent(world.proxy.url)}`
    browser = await launchChromium()
  })
  afterEach(async () => {
    world.proxy.repent()
    for (const page of pages.splice(0)) await page.close()
  })
  afterAll(async () => {
    await browser?.close()
    await server?.close()
    await world?.close()
    await rm(folder, { recursive: true, force: true })
  })

  async function openAs(who: PersonName): Promise<Page> {
    const watched = await openWatched(browser, url, [new URL(url).origin, world.proxy.url])
    pages.push(watched)
    const { page } = watched
    page.setDefaultTimeout(60_000)
    await logIn(page, formatIdentityFile(world.rig.people[who]))
    await page.getByRole('link', { name: 'lab', exact: true }).click()
    await page.getByRole('heading', { name: 'lab', exact: true }).waitFor()
    return page
  }
  const stopAsked = () => world.proxy.asked.some(({ method, path }) => method === 'POST' && path.endsWith('/stop'))

  test('Stop and Delete are offered to who may do it, and to nobody else', async () => {
    const grant = (...more: string[]) =>
      world.must('owner', ['grant', 'create', 'lab', world.identity('other'), ...more])
    await grant('--allow', 'info')
    const theirs = await openAs('other')
    await theirs.getByText('State, facts and events are what the broker says.').waitFor()
    expect(await theirs.getByRole('button', { name: /^(Stop|Delete) lab$/ }).count()).toBe(0)
    await grant('--role', 'manager', '--allow', 'info,power')
    const managers = await openAs('other')
    await managers.getByRole('button', { name: 'Stop lab' }).waitFor()
    expect(await (await openAs('administrator')).getByRole('button', { name: /^(Stop|Delete) lab$/ }).count()).toBe(2)
  })

  test('a VM that does not say that its drives are locked is not stopped, unless the person goes on without', async () => {
    const page = await openAs('owner')
    const refusal = { error: { code: 'vm-unreachable', says: '', detail: '', todo: '', request: 'r' } }
    world.proxy.swallow = ({ path }) => {
      if (path.endsWith('/sessions')) return { status: 503, json: refusal }
      return path.endsWith('/stop') ? { json: {} } : undefined
    }
    await page.getByRole('button', { name: 'Stop lab' }).click()
    const question = page.getByRole('dialog', { name: 'Stop lab?' })
    expect(await question.innerText()).toContain('It is done only once lab says that its drives are locked.')
    await question.getByRole('button', { name: 'Stop lab' }).click()
    const problem = page.locator('.problem[data-code="unconfirmed"]')
    await problem.waitFor()
    expect(await problem.innerText()).toContain('lab did not say that its drives are locked')
    expect(stopAsked()).toBe(false)
    await problem.getByRole('button', { name: 'Stop lab all the same' }).click()
    await page.getByText('The broker says that it stops lab.', { exact: true }).waitFor()
    expect(stopAsked()).toBe(true)
  })

  test('a VM is stopped once it said that no drive is open; that it stops is the broker’s word', async () => {
    const page = await openAs('owner')
    await page.getByRole('button', { name: 'Stop lab' }).click()
    await page.getByRole('dialog', { name: 'Stop lab?' }).getByRole('button', { name: 'Stop lab' }).click()
    await page.getByText('lab says that no drive was open. The broker says that it stops lab.').waitFor()
    expect((await world.rig.vm(vm)).state).toMatch(/^stop/)
    await page.getByText('prove nothing against the broker').waitFor()
  })
})
