/** The console page where the owner has to decide which boot is the VM: nothing goes to any of them before. SPEC §2.8 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { formatIdentityFile } from '../../client/identity/identity-file.ts'
import { type PageServer, readPage, servePage } from '../../client/node/page-server.ts'
import { bundlePage } from '../../images/bundle.ts'
import type { Vm } from '../../protocol/control/api.ts'
import type { AgentProcess } from '../processes/agent-support.ts'
import { LiedTo } from '../support/lied-to.ts'
import { Thief } from '../support/thief.ts'
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

describeBrowser('the console page and a VM of which nobody knows which boot it is', () => {
  let folder: string
  let world: LiedTo
  let vm: Vm
  let agent: AgentProcess
  let thief: Thief
  let server: PageServer
  let browser: Browser
  let watched: Watched
  let page: Page
  const sockets: string[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mortar-console-boots-'))
    await bundlePage(new URL('../../client/web', import.meta.url).pathname, join(folder, 'page'))
    const port = await freePort()
    world = await LiedTo.start([`http://127.0.0.1:${port}`])
    ;({ vm, agent } = await world.launch('lab'))
    server = await servePage(await readPage(join(folder, 'page')), world.proxy.url, { host: '127.0.0.1', port })
    browser = await launchChromium()
  })
  afterAll(async () => {
    await browser?.close()
    await server?.close()
    thief?.leave()
    await world?.close()
    await rm(folder, { recursive: true, force: true })
  })
  beforeEach(async () => {
    const url = `${server.url}#broker=${encodeURIComponent(world.proxy.url)}`
    watched = await openWatched(browser, url, [new URL(url).origin, world.proxy.url])
    page = watched.page
    page.setDefaultTimeout(60_000)
    page.on('websocket', socket => sockets.push(socket.url()))
    sockets.length = 0
    world.proxy.asked.length = 0
    await logIn(page, formatIdentityFile(world.rig.people.owner))
    await page.getByRole('link', { name: 'lab', exact: true }).click()
    await page.getByRole('heading', { name: 'lab', exact: true }).waitFor()
  })
  afterEach(() => watched.close())

  /** Somebody with the launch secret enrols as the next boot. */
  async function pose(): Promise<void> {
    thief?.leave()
    const { owner } = world.rig.people
    const broker = new BrokerApi({ url: world.rig.broker.origin, identity: owner, pins: pinsInMemory() })
    const posed = await Thief.pose({ identity: owner, broker }, vm, { agents: world.rig.network.origin })
    expect(posed.told).toBe('enrolled')
    thief = posed.thief
  }

  const card = () => page.getByRole('region', { name: 'Is this lab?' })
  const asked = (what: string) =>
    world.proxy.asked.filter(({ method, path }) => method === 'POST' && path.endsWith(what))
  /** What the page has said to anybody who may be the VM, and of them to the broker. */
  const said = () => ({ sockets: sockets.length, sessions: asked('/sessions').length, met: thief.met })

  test('a contested VM is sent nothing, though the owner connects, until one boot is confirmed by its words', async () => {
    expect(await card().count()).toBe(0)
    await pose()
    await card().waitFor()
    expect(await card().innerText()).toContain('somebody has a copy of one')
    const boots = card().getByRole('listitem')
    expect(await boots.count()).toBe(2)
    await page.getByRole('button', { name: 'Connect', exact: true }).click()
    await page.locator('.problem[data-code="boot-contested"]').waitFor()
    // whoever looks and goes away has decided nothing
    const { words } = (await agent.saw('enrolled')) as { words?: string }
    const confirm = card().getByRole('button', { name: `Confirm this one ${words}` })
    await confirm.click()
    await page.getByRole('dialog', { name: 'Confirm lab?' }).waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    expect(said()).toEqual({ sockets: 0, sessions: 0, met: 0 })
    expect((await world.rig.vm(vm.id)).certificate).toBe(vm.certificate)

    await confirm.click()
    const question = page.getByRole('dialog', { name: 'Confirm lab?' })
    expect(await question.innerText()).toContain(`“${words}”`)
    await question.getByRole('button', { name: 'Confirm it' }).click()
    await card().waitFor({ state: 'detached' })
    expect((await world.rig.vm(vm.id)).waiting).toEqual([])
    await page.getByRole('button', { name: 'Connect', exact: true }).click()
    await page.getByText('Connected, end to end. The VM proved the key that you certified.').waitFor()
    expect(thief.met).toBe(0)
  })

  test('a boot that nothing proves is sent nothing while the VM is away, and the VM cannot be confirmed unseen', async () => {
    await agent.stop('SIGKILL')
    await pose()
    await card().waitFor()
    expect(await card().innerText()).toContain('does not prove that it is the VM you knew')
    await page.getByRole('button', { name: 'Connect', exact: true }).click()
    await page.locator('.problem[data-code="boot-unproven"]').waitFor()
    const away = card().getByRole('listitem').filter({ hasText: 'not connected' })
    expect(await away.getByRole('button').isDisabled()).toBe(true)
    expect(said()).toEqual({ sockets: 0, sessions: 0, met: 0 })
  })
})
