/** What every source file keeps to: size, a first line that says its job, nothing that leaks or guesses. */
import { test } from 'vitest'
import { allSources, documents, expectNone, filesBelow, isSource, lineAt, productSources, read } from './sources.ts'

const MOST_LINES = 300
/** this file, which holds what it looks for */
const RULE = 'test/rules/files.test.ts'

/** Every match of `pattern` in `files` as `path:line text`. */
function matches(files: readonly string[], pattern: RegExp): string[] {
  return files.flatMap(file => {
    const text = read(file)
    return [...text.matchAll(pattern)].map(
      match => `${file}:${lineAt(text, match.index)} ${match[0].trim().slice(0, 80)}`,
    )
  })
}

test(`no source file is longer than ${MOST_LINES} lines`, () => {
  const long = allSources()
    .map(file => [file, read(file).split('\n').length - 1] as const)
    .filter(([, lines]) => lines > MOST_LINES)
  expectNone(
    'files to split',
    long.map(([file, lines]) => `${file}:${MOST_LINES + 1} has ${lines} lines`),
  )
})

test('each source file begins by saying its job', () => {
  const silent = allSources().filter(file => {
    const text = read(file)
    return !/^(#!.*\n)?\/\*\*[\s\S]{10,}?\*\//.test(text)
  })
  expectNone(
    'files without a doc comment at the top',
    silent.map(file => `${file}:1`),
  )
})

test('file names are kebab-case', () => {
  const odd = allSources().filter(file => !/^([a-z0-9.-]+\/)*[a-z0-9]+([-.][a-z0-9]+)*\.tsx?$/.test(file))
  expectNone('names', odd)
})

test('chance comes from the system, never from Math.random', () => {
  expectNone('Math.random', matches(productSources(), /\bMath\.random\b/g))
})

test('only programs and their logs write to the console', () => {
  const quiet = productSources().filter(
    file => /^(protocol|broker|agent)\//.test(file) && !/\/(main|log)\.ts$/.test(file),
  )
  expectNone('console', matches(quiet, /\bconsole\.\w+\(/g))
})

test('no default exports, no enums, no namespaces', () => {
  const sources = allSources()
  expectNone('default exports', matches(sources, /^export default\b/gm))
  expectNone('enums and namespaces', matches(sources, /^(export )?(const )?(enum|namespace) \w+/gm))
})

test('no type check is switched off', () => {
  expectNone('switched off', matches(productSources(), /@ts-(ignore|nocheck|expect-error)|biome-ignore-all/g))
})

test('no test is left alone or left out for good', () => {
  const tests = filesBelow('test', path => path.endsWith('.test.ts') && !path.startsWith('test/rules/'))
  expectNone('focused or disabled tests', matches(tests, /\b(test|describe|it)\.(only|todo|fails)\b/g))
})

test('no key or token is written into a file', () => {
  const texts = [
    ...allSources().filter(file => file !== RULE),
    ...documents(),
    ...filesBelow('images', path => !isSource(path)),
    'package.json',
    '.npmrc',
  ]
  const patterns = [
    /-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]/g,
    /AGE-SECRET-KEY-1[0-9A-Z]{20}/g,
    /\b(ghp|gho|github_pat|glpat|xox[bp])[-_][A-Za-z0-9_]{20}/g,
    /\bAKIA[0-9A-Z]{16}\b/g,
    /_authToken=\S/g,
    /\/\/[^/\s:@]+:[^/\s@]{8,}@/g,
  ]
  expectNone(
    'what looks like a secret',
    patterns.flatMap(pattern => matches(texts, pattern)),
  )
})

test('the lock file and the sources point at no private host', () => {
  const resolved = matches(['package-lock.json'], /"resolved": "(?!https:\/\/registry\.npmjs\.org\/)[^"]*"/g)
  expectNone('resolved elsewhere than at the public registry', resolved)
  expectNone('a registry is named', matches(['.npmrc', 'package.json'], /registry\s*[=:].*/g))
  const texts = [...allSources(), ...documents(), ...filesBelow('images', path => !isSource(path)), '.ci/run']
  // the last is a path of somebody's own machine
  const places =
    /(?<=[/@][\w.-]*)\.(internal|intranet|corp|lan)\b|\.\.\/shared\b|(?<![\w.-])\/(home\/(?!ada|\$|NAME|USER)\w|work\/)\S*/g
  expectNone(
    'names of a private place',
    matches(
      texts.filter(file => file !== RULE),
      places,
    ),
  )
})
