/** The history reads as one: commit subjects say the area and, in lower case, what was done. */
import { spawnSync } from 'node:child_process'
import { test } from 'vitest'
import { expectNone, ROOT } from './sources.ts'

const log = spawnSync('git', ['log', '--no-merges', '--format=%h %s', 'HEAD'], { cwd: ROOT, encoding: 'utf8' })

test.skipIf(log.status !== 0)('commit subjects are `area: verb in lower case`', () => {
  const subjects = log.stdout.split('\n').filter(line => line !== '')
  const wrong = subjects.filter(
    line => !/^[0-9a-f]+ [a-z][\w./-]*(, [a-z][\w./-]*)*: [a-z][^\n]*[^.\s]$/.test(line) || line.length > 120,
  )
  expectNone('subjects', wrong)
})
