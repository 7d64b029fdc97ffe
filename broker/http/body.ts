/** Reading the body of a request: as much as is allowed, in the time that is allowed, and not before it is wanted. SPEC §3.3 */
import type { IncomingMessage } from 'node:http'
import { MortarError } from '../../protocol/core/errors.ts'

/** Fails with limit-exceeded, bad-request when the caller goes away, or timeout. */
export function readBody(request: IncomingMessage, mostBytes: number, withinMs: number): Promise<Uint8Array> {
  const tooMuch = () => new MortarError('limit-exceeded', `a body of more than ${mostBytes} bytes`)
  if (Number(request.headers['content-length'] ?? 0) > mostBytes) return Promise.reject(tooMuch())
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const settle = (failure?: MortarError) => {
      clearTimeout(timer)
      request.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
      if (!failure) return resolve(new Uint8Array(Buffer.concat(chunks)))
      request.pause()
      reject(failure)
    }
    const onData = (chunk: Buffer) => {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > mostBytes) settle(tooMuch())
    }
    const onEnd = () => settle()
    const onGone = () => settle(new MortarError('bad-request', 'the request broke off'))
    const timer = setTimeout(() => settle(new MortarError('timeout', 'the rest of the request did not come')), withinMs)
    request.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}
