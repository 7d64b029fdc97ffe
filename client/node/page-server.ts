/**
 * Serves the built console page from this machine: fixed files read once, checked against the list of hashes beside them,
 * with headers that let the page load nothing else and talk to its broker only.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { extname, join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import { hasCode } from './files.ts'

const HASHES = 'hashes.txt'
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
}

interface PageFile {
  readonly type: string
  readonly bytes: Uint8Array
}

/** Files of the page by their path. Fails with not-found when there is no page, denied when a file is not the one built. */
export async function readPage(folder: string): Promise<ReadonlyMap<string, PageFile>> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (cause) {
    throw new MortarError('not-found', `the console page in ${folder}; build it with: npm run build`, { cause })
  }
  const files = new Map<string, PageFile>()
  for (const name of names) {
    const type = TYPES[extname(name)]
    if (type) files.set(`/${name}`, { type, bytes: await readFile(join(folder, name)) })
  }
  const index = files.get('/index.html')
  if (!index) throw new MortarError('not-found', `index.html in ${folder}; build it with: npm run build`)
  checkHashes(folder, files)
  return files.set('/', index)
}

function checkHashes(folder: string, files: ReadonlyMap<string, PageFile>): void {
  const list = files.get(`/${HASHES}`)
  if (!list) throw new MortarError('denied', `${folder} has no ${HASHES}, so the page cannot be checked`)
  const expected = new Map(
    Buffer.from(list.bytes)
      .toString('utf8')
      .split('\n')
      .filter(Boolean)
      .map(line => [`/${line.slice(66)}`, line.slice(0, 64)]),
  )
  for (const [path, { bytes }] of files) {
    if (path === `/${HASHES}`) continue
    if (createHash('sha256').update(bytes).digest('hex') !== expected.get(path)) {
      throw new MortarError('denied', `${folder}${path} is not the file listed in ${HASHES}`)
    }
  }
}

/** The headers of every answer. `broker`: its http address, the only place the page may connect to. */
export function pageHeaders(broker: string): Readonly<Record<string, string>> {
  const { origin } = new URL(broker)
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    // xterm.js sizes its rows by style elements of its own
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self'",
    `connect-src ${origin} ${origin.replace(/^http/, 'ws')}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ]
  return {
    'content-security-policy': policy.join('; '),
    'cache-control': 'no-store',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'permissions-policy': 'camera=(), microphone=(), geolocation=(), usb=(), serial=()',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
  }
}

export interface PageServer {
  /** http address of the page */
  readonly url: string
  close(): Promise<void>
}

/** Listens at `host`:`port` (0: any free port). Fails with port-taken. */
export async function servePage(
  files: ReadonlyMap<string, PageFile>,
  broker: string,
  { host, port }: { host: string; port: number },
): Promise<PageServer> {
  const headers = pageHeaders(broker)
  const server = createServer((request, response) => answer(files, headers, request, response))
  await listen(server, host, port)
  const address = server.address()
  const taken = typeof address === 'object' && address ? address.port : port
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}/`,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function answer(
  files: ReadonlyMap<string, PageFile>,
  headers: Readonly<Record<string, string>>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const [path = ''] = (request.url ?? '').split('?')
  const file = files.get(path)
  const reads = request.method === 'GET' || request.method === 'HEAD'
  const status = reads ? (file ? 200 : 404) : 405
  response.writeHead(status, { ...headers, 'content-type': status === 200 && file ? file.type : 'text/plain' })
  response.end(request.method === 'HEAD' ? undefined : status === 200 ? file?.bytes : `${status}\n`)
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', cause => {
      const taken = hasCode(cause, 'EADDRINUSE')
      reject(new MortarError(taken ? 'port-taken' : 'internal', `${host}:${port}${taken ? '' : ` (${cause.message})`}`))
    })
    server.listen(port, host, () => resolve())
  })
}
