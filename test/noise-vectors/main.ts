/** `npm run noise-vectors`: runs a file of Noise vectors through the engine. */
import { readFileSync } from 'node:fs'
import { BACKENDS } from '../support/backends.ts'
import { nameOf, runVector, vectorsOf } from '../support/noise-vector.ts'
import { readOptions } from '../support/options.ts'

const HELP = `Usage: npm run noise-vectors -- FILE [--backend noble|native]

Runs every vector of a JSON file in the format of cacophony, snow and noise-c: {"vectors": [...]}, or the list alone. A
vector that is malformed, or of a protocol that the engine does not run, counts as failed. One with "fail": true passes
when its last message is refused, and only that one.

  --backend NAME  noble (default) or native, Node's own cryptography
  --quiet         failures and the last line only

Examples:
  npm run noise-vectors -- test/vectors/noise.json
  npm run noise-vectors -- test/vectors/noise-patterns.json --quiet
  npm run noise-vectors -- cacophony.json --backend native --quiet
Exit: 0 all passed, 1 some failed, 2 usage, or a file that cannot be read or holds no vectors.`

function vectorsIn(path: string): unknown[] {
  try {
    const vectors = vectorsOf(readFileSync(path, 'utf8'))
    if (vectors.length === 0) throw new Error('holds no vectors')
    return vectors
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new Error(`${path}: ${code === undefined ? message : `cannot be read (${code})`}`, { cause })
  }
}

async function main(): Promise<number> {
  const { values, positionals } = readOptions('noise-vectors', {
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
  if (!Object.hasOwn(BACKENDS, values.backend)) throw new Error(`no back end is called ${values.backend}; see --help`)
  if (path === undefined || more.length > 0) throw new Error('needs one file of vectors; see --help')
  const backend = BACKENDS[values.backend as keyof typeof BACKENDS]
  let [passed, failed] = [0, 0]
  for (const [index, vector] of vectorsIn(path).entries()) {
    // what a file says is not to reach a terminal as it is
    const say = (line: string) => console.log(line.replaceAll(/\p{Cc}+/gu, ' '))
    try {
      await runVector(vector, backend)
      passed++
      if (!values.quiet) say(`passed  ${nameOf(vector)}`)
    } catch (thrown) {
      failed++
      say(`FAILED  vector ${index + 1}, ${nameOf(vector)}: ${(thrown as Error).message}`)
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
