/** One HTTP request to the broker: its deadline, the limit of its answer, and what each failure means. SPEC §3.3 */
import type { z } from 'zod'
import { failure, ROUTES, type RouteName } from '../../protocol/control/api.ts'
import { concat, decodeText } from '../../protocol/core/bytes.ts'
import { type ErrorCode, isErrorCode, MortarError } from '../../protocol/core/errors.ts'

export const REQUEST_MS = 30_000
const LARGEST_ANSWER_BYTES = 1_048_576

export interface BrokerRequest<S extends z.ZodType> {
  readonly route: RouteName
  /** shape of the answer */
  readonly answer: S
  /** value of :id in the path */
  readonly id?: string
  /** value of :grantee in the path */
  readonly grantee?: string
  readonly query?: Readonly<Record<string, string>>
  /** sent as JSON; bytes are sent as CBOR */
  readonly body?: unknown
  readonly token?: string | undefined
  readonly timeoutMs?: number
  readonly limitBytes?: number
  readonly signal?: AbortSignal | undefined
}

/** The broker's address in one form: no trailing slash. Fails with usage unless it is an http or https URL. */
export function parseBrokerUrl(text: string): string {
  let url: URL
  try {
    url = new URL(text)
  } catch (cause) {
    throw new MortarError('usage', `"${text}" is not a URL`, { cause })
  }
  const plain = url.search === '' && url.hash === '' && url.username === '' && url.password === ''
  if (!/^https?:$/.test(url.protocol) || !plain) {
    throw new MortarError('usage', `"${text}" is not the http or https address of a broker`)
  }
  return url.href.replace(/\/+$/, '')
}

/**
 * Sends a request and checks the answer's shape. Fails with the broker's own code; with broker-unreachable
 * when there is nobody or a proxy answers in the broker's place, connection-lost when the answer breaks off, timeout when it is silent, protocol-violation when the answer is none of this protocol.
 */
export async function requestBroker<S extends z.ZodType>(
  base: string,
  request: BrokerRequest<S>,
): Promise<z.output<S>> {
  const timeout = AbortSignal.timeout(request.timeoutMs ?? REQUEST_MS)
  const signal = request.signal ? AbortSignal.any([timeout, request.signal]) : timeout
  let broken: ErrorCode = 'broker-unreachable'
  try {
    const response = await fetch(urlOf(base, request), { ...initOf(request), signal })
    broken = 'connection-lost'
    const bytes = await readLimited(response, request.limitBytes ?? LARGEST_ANSWER_BYTES)
    return readAnswer(request, response, bytes)
  } catch (cause) {
    if (cause instanceof MortarError) throw cause
    request.signal?.throwIfAborted()
    if (timeout.aborted) throw new MortarError('timeout', `${base} did not answer`, { cause })
    throw new MortarError(broken, `${base} ${reasonOf(cause)}`, { cause })
  }
}

function urlOf(base: string, { route, id = '', grantee = '', query }: BrokerRequest<z.ZodType>): string {
  const path = ROUTES[route].path
    .replace(':id', encodeURIComponent(id))
    .replace(':grantee', encodeURIComponent(grantee))
  return base + path + (query ? `?${new URLSearchParams(query)}` : '')
}

function initOf({ route, body, token }: BrokerRequest<z.ZodType>): RequestInit {
  const headers: Record<string, string> = { accept: 'application/json' }
  if (token) headers.authorization = `Bearer ${token}`
  const init: RequestInit = { method: ROUTES[route].method, headers, redirect: 'error', cache: 'no-store' }
  if (body === undefined) return init
  headers['content-type'] = body instanceof Uint8Array ? 'application/cbor' : 'application/json'
  return { ...init, body: body instanceof Uint8Array ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body) }
}

async function readLimited(response: Response, limitBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  const reader = response.body?.getReader()
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined }
    if (done || !value) break
    length += value.length
    if (length > limitBytes) {
      await reader?.cancel()
      throw new MortarError('protocol-violation', `the broker answered more than ${limitBytes} bytes`)
    }
    parts.push(value)
  }
  return concat(...parts)
}

function readAnswer<S extends z.ZodType>({ route, answer }: BrokerRequest<S>, response: Response, bytes: Uint8Array) {
  let json: unknown
  try {
    json = bytes.length === 0 ? null : JSON.parse(decodeText(bytes))
  } catch (cause) {
    if (response.status >= 500) throw answeredByProxy(response)
    throw new MortarError('protocol-violation', `${route}: the answer (HTTP ${response.status}) is not JSON`, { cause })
  }
  if (!response.ok) throw brokerError(route, response, json)
  const checked = answer.safeParse(json)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]
  const where = issue?.path.join('.') ?? ''
  throw new MortarError('protocol-violation', `${route}: ${where} ${issue?.message ?? ''}`, { cause: checked.error })
}

/** The error of a failed answer; its code is the broker's only when it is one of the table. */
function brokerError(route: RouteName, response: Response, json: unknown): MortarError {
  const checked = failure.safeParse(json)
  const code = checked.data?.error.code
  if (checked.data && isErrorCode(code)) return new MortarError(code, checked.data.error.detail)
  if (!checked.success && response.status >= 500) return answeredByProxy(response)
  return new MortarError('protocol-violation', `${route}: HTTP ${response.status} without an error of this protocol`)
}

/** A proxy before the broker answers 502 and the like while the broker is away: that is absence, and passes. */
const answeredByProxy = ({ url, status }: Response) =>
  new MortarError(
    'broker-unreachable',
    `${new URL(url).origin} answered HTTP ${status}; a proxy says so, not the broker`,
  )

/** codes of Node that say nothing to a person */
const REASONS: Readonly<Record<string, string>> = {
  ERR_SSL_WRONG_VERSION_NUMBER: 'speaks http, not https',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'speaks http, not https',
  UND_ERR_SOCKET: 'closed the connection; it may speak https, not http',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'has a certificate that this machine does not trust (self-signed)',
  SELF_SIGNED_CERT_IN_CHAIN: 'has a certificate that this machine does not trust (self-signed)',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'has a certificate that this machine does not trust',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'has a certificate that this machine does not trust',
  CERT_HAS_EXPIRED: 'has a certificate that has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'has a certificate of another name',
}

/** What a failed fetch has to say: Node keeps the reason in the cause, browsers say nothing. */
function reasonOf(thrown: unknown): string {
  const cause = thrown instanceof Error ? (thrown.cause ?? thrown) : thrown
  const message = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && 'code' in cause && cause.code ? String(cause.code) : message
  return REASONS[code] ?? `cannot be reached (${code || 'no reason given'})`
}
