/** `npm run noise-vectors`: runs a file of Noise vectors through the engine. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { BACKENDS } from '../support/backends.ts'
import { nameOf, runVector, vectorsOf } from '../support/noise-vector.ts'

const HELP = `Usage: npm run noise-vectors -- FILE [--backend noble|native]

Runs every vector of a JSON file in the format of cacophony ({"vectors": [...]}). A protocol that the engine does not run
counts as failed.

  --backend NAME  noble (default) or native, Node's own cryptography
  --quiet         failures and the last line only

Examples:
  npm run noise-vectors -- test/vectors/noise.json
  npm run noise-vectors -- test/vectors/noise-patterns.json --quiet
  npm run noise-vectors -- cacophony.json --backend native --quiet
Exit: 0 all passed, 1 some failed, 2 usage, or a file that holds no vectors or a malformed one: then none is run.`

function vectorsIn(path: string): unknown[] {
  const json = readFileSync(path, 'utf8')
  try {
    return vectorsOf(json)
  } catch (cause) {
    throw new Error(`${path}: ${(cause as Error).message}`, { cause })
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      backend: { type: 'string', default: 'noble' },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    console.log(HELP)
    return 0
  }
  const [path, ...more] = positionals
  if (path === undefined || more.length > 0 || !Object.hasOwn(BACKENDS, values.backend)) {
    console.error(HELP)
    return 2
  }
  const backend = BACKENDS[values.backend as keyof typeof BACKENDS]
  let [passed, failed] = [0, 0]
  for (const vector of vectorsIn(path)) {
    try {
      await runVector(vector, backend)
      passed++
      if (!values.quiet) console.log(`passed  ${nameOf(vector)}`)
    } catch (thrown) {
      failed++
      console.log(`FAILED  ${nameOf(vector)}: ${(thrown as Error).message.split('\n')[0]}`)
    }
  }
  console.log(`${passed} passed, ${failed} failed`)
  return failed > 0 || passed === 0 ? 1 : 0
}

main().then(
  code => {
    process.exitCode = code
  },
  thrown => {
    console.error(`noise-vectors: ${(thrown as Error).message}`)
    process.exitCode = 2
  },
)
