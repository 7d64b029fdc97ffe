/**
 * The tests that a mutant of protocol/channel has to survive: those that run it closely, and quickly. MUTANTS=patterns
 * takes those of the published patterns and algorithms of Noise, which are many.
 */
import { defineConfig } from 'vitest/config'

const CLOSE = [
  'handshake-rules',
  'native-suite',
  'secure-channel',
  'wiping',
  'channel-edges',
  'channel-refusals',
  'bad-points',
  'secret-offer',
  'channel-vectors',
  'rekey',
  'session-vectors',
  'statement-vectors',
]
const PATTERNS = ['noise-vectors', 'pattern-names']
const files = process.env.MUTANTS === 'patterns' ? PATTERNS : CLOSE

export default defineConfig({
  test: {
    // what starts programs, or runs the same again, tells no more of a mutant
    testNamePattern:
      /^(?!.*(takes a file|refuses a file|npm run noise-vectors|with one bit changed|prints the file)).*/,
    include: files.map(name => `test/protocol/${name}.test.ts`),
    isolate: false,
    fileParallelism: false,
    testTimeout: 60_000,
    expect: { poll: { timeout: 5_000 } },
  },
})
