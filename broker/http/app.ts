/** The HTTP API as one application: routes from the table, login, limits, errors in one shape. SPEC §3.3 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { type Context, Hono } from 'hono'
import { cors } from 'hono/cors'
import { ROUTES, type RouteName } from '../../protocol/control/api.ts'
import { decodeCbor } from '../../protocol/core/codec.ts'
import { asMortarError, ERRORS, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { wipe } from '../../protocol/core/secret.ts'
import type { User } from '../auth/login.ts'
import type { Log } from '../process/log.ts'
import { isDiskFull } from '../store/database.ts'
import { readBody } from './body.ts'
import type { Connections } from './connections.ts'
import { HANDLERS, type Services } from './handlers.ts'
import type { RateLimit } from './rate-limit.ts'

export interface AppParts {
  readonly services: Services
  readonly log: Log
  readonly origins: readonly string[]
  /** requests of users, by their keys. Those of strangers are not counted: to answer one costs hardly more than to refuse it */
  readonly users: RateLimit
  readonly connections: Connections
  /** a request was answered */
  onAnswered(): void
}

export function createApp(parts: AppParts): Hono {
  const app = new Hono()
  if (parts.origins.length > 0) {
    const headers = ['authorization', 'content-type']
    app.use(cors({ origin: [...parts.origins], allowHeaders: headers, maxAge: 600 }))
  }
  for (const [name, route] of Object.entries(ROUTES) as [RouteName, (typeof ROUTES)[RouteName]][]) {
    app.on(route.method, route.path, context => answer(parts, name, context))
  }
  app.notFound(context => fail(parts, context, new MortarError('not-found', context.req.path.slice(0, 200))))
  app.onError((thrown, context) => fail(parts, context, thrown))
  return app
}

async function answer(parts: AppParts, name: RouteName, context: Context): Promise<Response> {
  const { incoming } = context.env as { incoming: IncomingMessage }
  const user = authorise(parts, name, context)
  if (user) {
    parts.connections.prove(incoming.socket, user.key)
    parts.users.count(user.key)
  }
  const { body: schema, encoding, run } = HANDLERS[name]
  const [bytes, ms] = user ? [LIMITS.bodyBytes, LIMITS.bodyMs] : [LIMITS.strangerBodyBytes, LIMITS.authenticationMs]
  // not before it is known whose it is
  const raw = schema ? await readBody(incoming, bytes, ms) : undefined
  try {
    let body: unknown
    if (schema && raw) {
      body =
        encoding === 'cbor'
          ? decodeCbor(schema, raw, LIMITS.bodyBytes, 'bad-request')
          : parseJson(schema, new TextDecoder().decode(raw))
    }
    const { id = '', grantee = '' } = context.req.param() as { id?: string; grantee?: string }
    return context.json((await run(parts.services, { user, id, grantee, query: context.req.query(), body })) as object)
  } finally {
    // a launch carries a secret
    wipe(raw)
    parts.onAnswered()
  }
}

function authorise(parts: AppParts, name: RouteName, context: Context): User | undefined {
  const { access } = ROUTES[name]
  if (access === 'anyone') return undefined
  const token = /^Bearer ([A-Za-z0-9_-]{1,64})$/.exec(context.req.header('authorization') ?? '')?.[1]
  if (token === undefined) throw new MortarError('login-expired', 'no login')
  const user = parts.services.login.userOf(token)
  if (access === 'administrator' && user.role !== 'administrator')
    throw new MortarError('denied', 'administrators only')
  return user
}

function parseJson(schema: NonNullable<(typeof HANDLERS)[RouteName]['body']>, text: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new MortarError('bad-request', 'the body is not JSON', { cause })
  }
  const checked = schema.safeParse(value)
  if (checked.success) return checked.data
  const [issue] = checked.error.issues
  throw new MortarError('bad-request', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
}

function fail(parts: AppParts, context: Context, thrown: unknown): Response {
  const error = errorOf(thrown)
  const request = randomUUID()
  const { status, says, todo } = ERRORS[error.code]
  if (status >= 500) {
    const stack =
      error.code === 'internal' ? String((error.cause as Error | undefined)?.stack ?? error.stack) : undefined
    parts.log.error('request.failed', { request, code: error.code, detail: error.detail, stack })
  }
  // what broke inside is for the log; the request's id leads there
  const detail = error.code === 'internal' ? '' : error.detail.slice(0, 2000)
  return context.json({ error: { code: error.code, says, detail, todo, request } }, status as 400)
}

function errorOf(cause: unknown): MortarError {
  if (isDiskFull(cause)) return new MortarError('no-space', 'database', { cause })
  // a caller that goes away in the middle of its request is no failure of ours
  const gone = (cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET'
  return asMortarError(cause, gone ? 'bad-request' : 'internal')
}
