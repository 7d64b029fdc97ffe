/** `mortar console`: serves the console page from this machine until it is interrupted. */
import { dirname, join } from 'node:path'
import { isSea } from 'node:sea'
import { MortarError } from '../../protocol/core/errors.ts'
import { parseBrokerUrl } from '../broker/request.ts'
import { readPage, servePage } from '../node/page-server.ts'
import { toJson } from './output.ts'
import { writeTo } from './streams.ts'
import type { Action } from './subcommand.ts'

/** addresses that stay in this machine */
const LOCAL = ['127.0.0.1', '::1', 'localhost']

export const serveConsole: Action = async (context, given) => {
  const broker = parseBrokerUrl(context.globals.broker)
  const address = parseAddress(given.text('listen') ?? '')
  const page = await readPage(given.text('page') ?? defaultPage())
  const server = await servePage(page, broker, address)
  const url = `${server.url}#broker=${encodeURIComponent(broker)}`
  await writeTo(process.stdout, context.globals.json ? `${toJson({ url })}\n` : `${url}\n`)
  const origin = new URL(server.url).origin
  context.progress.line(`serving the console; the broker must list ${origin} under origins; Ctrl-C ends it`)
  if (!LOCAL.includes(address.host)) {
    context.progress.line(
      `who is on the way to ${address.host} can change the page and take identities: put TLS before it`,
    )
  }
  await interrupted()
  await server.close()
  return { exitCode: 0 }
}

/** Beside the binary, or in the repository's build folder. */
function defaultPage(): string {
  if (isSea()) return join(dirname(process.execPath), 'console')
  return join(dirname(process.argv[1] ?? ''), '..', '..', 'build', 'console')
}

function parseAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+)):(\d{1,5})$/i.exec(text)
  const port = Number(match?.[3])
  if (!match || port > 65_535) throw new MortarError('usage', `--listen needs ADDRESS:PORT, not "${text}"`)
  return { host: match[1] ?? match[2] ?? '', port }
}

function interrupted(): Promise<void> {
  return new Promise(resolve => {
    process.once('SIGINT', () => resolve())
    process.once('SIGTERM', () => resolve())
  })
}
