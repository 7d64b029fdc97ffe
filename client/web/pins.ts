/** The known brokers, in the browser's storage for this page: public keys by address, and nothing else. */
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { base64urlOf, z } from '../../protocol/core/schema.ts'
import type { BrokerPins } from '../broker/api.ts'

const KEY = 'mortar known brokers v1'
const knownSchema = z.record(z.string().max(2048), base64urlOf(32))

/** Fails with broker-mismatch when the entry is damaged: unknown must not look like known. */
function readKnown(): Record<string, string> {
  const stored = localStorage.getItem(KEY)
  if (stored === null) return {}
  try {
    return knownSchema.parse(JSON.parse(stored))
  } catch (cause) {
    throw new MortarError('broker-mismatch', 'the list of known brokers in this browser is damaged', { cause })
  }
}

export const storedPins: BrokerPins = {
  async read(url) {
    const known = readKnown()
    return Object.hasOwn(known, url) ? decodeBase64url(known[url] as string) : null
  },
  async addressOf(key) {
    const text = encodeBase64url(key)
    return Object.entries(readKnown()).find(([, known]) => known === text)?.[0] ?? null
  },
  async write(url, key) {
    localStorage.setItem(KEY, JSON.stringify({ ...readKnown(), [url]: encodeBase64url(key) }))
  },
}

/** For a person who knows that the broker was set up anew. A damaged list is forgotten whole. */
export function forgetBroker(url: string): void {
  let known: Record<string, string> = {}
  try {
    known = readKnown()
  } catch {
    // it goes with the rest
  }
  delete known[url]
  localStorage.setItem(KEY, JSON.stringify(known))
}
