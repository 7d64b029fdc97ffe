/** The protocol's suite in Chromium, as the console page runs it. */
import { readFileSync } from 'node:fs'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { protocolSuite } from '../support/protocol-suite.ts'
import { type Browser, describeBrowser, launchChromium, type Page } from './chromium.ts'

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8')).vectors
const input = { noise: read('noise'), channel: read('channel') }
const ROOT = new URL('../..', import.meta.url).pathname

/** Runs one case of the suite in the page; the result is its error, or null. */
const SCRIPT = `
  import { nobleAlgorithmsOf } from './protocol/channel/noble-algorithms.ts'
  import { nobleSuite } from './protocol/channel/noble-suite.ts'
  import { protocolSuite } from './test/support/protocol-suite.ts'
  const backend = { suite: nobleSuite, algorithmsOf: nobleAlgorithmsOf }
  globalThis.runCase = (input, index) => protocolSuite(input)[index][1](backend).then(() => null, error => String(error))
`

describeBrowser('the protocol in Chromium', () => {
  let browser: Browser
  let page: Page

  beforeAll(async () => {
    const { outputFiles } = await build({
      stdin: { contents: SCRIPT, resolveDir: ROOT, loader: 'ts' },
      bundle: true,
      write: false,
      platform: 'browser',
      format: 'iife',
      target: 'es2023',
    })
    browser = await launchChromium()
    page = await browser.newPage()
    await page.addScriptTag({ content: outputFiles[0]?.text ?? '' })
  })
  afterAll(() => browser?.close())

  test.each(protocolSuite(input).map(([name], index) => [name, index] as const))('%s', async (_name, index) => {
    const run = 'runCase' as never
    const failed = await page.evaluate(
      ([name, given, at]) =>
        (globalThis as never as Record<string, (given: unknown, at: number) => unknown>)[name]?.(given, at),
      [run as string, input, index] as const,
    )
    expect(failed).toBeNull()
  })
})
