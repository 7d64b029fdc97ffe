/** A small HTTP server that speaks as much of the broker's API as a test scripts, with real signatures at login. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { WebSocketServer } from 'ws'
import { LauncherKey } from '../../broker/vms/launcher-key.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { signLauncherKey } from '../../protocol/control/launcher.ts'
import { signBrokerProof, verifyLogin } from '../../protocol/control/login.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { ERRORS, type ErrorCode, isErrorCode } from '../../protocol/core/errors.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'

export interface Answer {
  readonly status?: number
  readonly json?: unknown
  /** sent as it is, instead of JSON */
  readonly raw?: string
  /** ms before the answer */
  readonly delayMs?: number
}
export type Script = Record<string, (body: unknown, request: IncomingMessage) => Answer | Promise<Answer>>

/** The answer by which the broker refuses. */
export const refusal = (code: string, detail = '', status?: number): Answer => ({
  status: status ?? (isErrorCode(code) ? ERRORS[code as ErrorCode].status : 500),
  json: { error: { code, says: 'says', detail, todo: 'todo', request: 'r1' } },
})

/** Routes are given as `GET /v1/vms`; broker and login are answered unless scripted otherwise. */
export async function smallBroker(
  script: Script,
  seed: Uint8Array = new Uint8Array(32).fill(42),
  more: { otherwise?: Script[string]; sockets?: WebSocketServer; launcherKey?: LauncherKey } = {},
) {
  const key = signingPublicKey(seed)
  const launcherKey = more.launcherKey ?? new LauncherKey()
  const launcher = {
    key: encodeBase64url(launcherKey.publicKey),
    signature: encodeBase64url(signLauncherKey(launcherKey.publicKey, seed)),
  }
  const nonce = new Uint8Array(32).fill(1)
  const calls: { route: string; authorization: string | undefined }[] = []
  let logins = 0
  const all: Script = {
    'GET /v1/broker': () => ({
      json: {
        id: encodeBase64url(key),
        version: '1',
        launcher,
        acceleration: 'tcg',
        accelerationReason: '',
        hostMemory: { locked: true, swap: 'none' },
        ssh: null,
      },
    }),
    'POST /v1/login/challenge': body => {
      const { user } = body as { user: string }
      const brokerProof = encodeBase64url(signBrokerProof(nonce, decodeBase64url(user), seed))
      return { json: { nonce: encodeBase64url(nonce), brokerProof } }
    },
    'POST /v1/login': body => {
      const { user, signature } = body as { user: string; signature: string }
      const proven = verifyLogin(nonce, key, decodeBase64url(signature), decodeBase64url(user))
      if (!proven) return refusal('identity-wrong')
      return { json: { token: `token-${++logins}`, expiresAt: '2030-01-01T00:00:00Z', role: 'user' } }
    },
    ...script,
  }
  const server = createServer(async (request, response) => {
    const route = `${request.method} ${request.url}`
    calls.push({ route, authorization: request.headers.authorization })
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const bytes = Buffer.concat(chunks)
    const isJson = request.headers['content-type'] === 'application/json'
    const handler = all[route] ?? all[route.split('?')[0] as string] ?? more.otherwise
    const answer = (await handler?.(isJson ? JSON.parse(bytes.toString()) : bytes, request)) ?? refusal('not-found')
    if (answer.delayMs) await new Promise(resolve => setTimeout(resolve, answer.delayMs))
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json' })
    response.end(answer.raw ?? JSON.stringify(answer.json ?? {}))
  })
  server.on('upgrade', (request, socket, head) => {
    if (!more.sockets) return socket.destroy()
    more.sockets.handleUpgrade(request, socket, head, upgraded => more.sockets?.emit('connection', upgraded, request))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    key,
    launcherKey,
    calls,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** A VM as the broker shows it. */
export function sampleVm(owner: Uint8Array, more: Partial<Vm> = {}): Vm {
  return {
    id: '11111111-1111-4111-8111-111111111111',
    name: 'first',
    state: 'enrolled',
    revision: 3,
    owner: encodeBase64url(owner),
    brick: 'debian-12',
    brickSha256: 'ab'.repeat(32),
    launch: '22222222-2222-4222-8222-222222222222',
    createdAt: '2026-01-01T00:00:00Z',
    memoryMiB: 1024,
    vcpus: 1,
    failure: null,
    agent: null,
    certificate: null,
    formerCertificate: null,
    boots: [],
    waiting: [],
    drives: [],
    grants: [],
    events: [],
    ...more,
  }
}

/** The agent of a VM as the broker shows it. */
export function sampleAgent(
  agentDh: Uint8Array,
  agentSign: Uint8Array,
  more: Partial<NonNullable<Vm['agent']>> = {},
): NonNullable<Vm['agent']> {
  return {
    generation: 1,
    agentDh: encodeBase64url(agentDh),
    agentSign: encodeBase64url(agentSign),
    addresses: [],
    version: '1',
    connected: true,
    enrolledAt: '2026-01-01T00:00:00Z',
    ...more,
  }
}

/** A brick as the broker shows it. */
export const sampleBrick = {
  name: 'debian-12',
  version: '1',
  sha256: 'cd'.repeat(32),
  sizeBytes: 1,
  virtualSizeBytes: 1,
  agentVersion: '1',
  builder: 'x',
  importedAt: '2026-01-01T00:00:00Z',
}
