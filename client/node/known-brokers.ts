/** known-brokers.json beside the identity: the key of the broker at each address, kept at the first visit. */
import { decodeBase64url, decodeText, encodeBase64url, encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { base64urlOf, z } from '../../protocol/core/schema.ts'
import type { BrokerPins } from '../broker/api.ts'
import { readTrusted, writeWhole } from './files.ts'

const LARGEST_FILE_BYTES = 262_144
const schema = z.record(z.string().max(2048), base64urlOf(32))

/** Pins in a file. Fails with bad-config when it makes no sense (to forget every broker is the user's choice), denied when others can change it. */
export function pinsInFile(path: string): BrokerPins {
  const readAll = async (): Promise<Record<string, string>> => {
    const file = await readTrusted(path, LARGEST_FILE_BYTES)
    try {
      return file ? schema.parse(JSON.parse(decodeText(file.bytes))) : {}
    } catch (cause) {
      throw new MortarError('bad-config', `${path} cannot be read; it maps addresses of brokers to their keys`, {
        cause,
      })
    }
  }
  return {
    async read(url) {
      const all = await readAll()
      return Object.hasOwn(all, url) ? decodeBase64url(all[url] as string) : null
    },
    async addressOf(key) {
      const text = encodeBase64url(key)
      return Object.entries(await readAll()).find(([, known]) => known === text)?.[0] ?? null
    },
    async write(url, key) {
      const all = { ...(await readAll()), [url]: encodeBase64url(key) }
      await writeWhole(path, encodeText(`${JSON.stringify(all, null, 2)}\n`))
    },
  }
}
