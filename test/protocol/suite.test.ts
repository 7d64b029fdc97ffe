/** The protocol's suite in Node, with both back ends. */
import { readFileSync } from 'node:fs'
import { describe, test } from 'vitest'
import { BACKENDS } from '../support/backends.ts'
import { protocolSuite } from '../support/protocol-suite.ts'

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8')).vectors
const suite = protocolSuite({ noise: read('noise'), channel: read('channel') })

describe.each(Object.entries(BACKENDS))('the protocol on Node, %s', (_, backend) => {
  test.each(suite.map(([name, run]) => [name, run] as const))('%s', (_name, run) => run(backend))
})
