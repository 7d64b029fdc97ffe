/** The documents tell the truth about the tree: paths, links, npm scripts, exit codes, and the tests SECURITY.md relies on. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { SUBCOMMANDS } from '../../client/cli/subcommands.ts'
import { documents, expectNone, lineAt, productSources, ROOT, read } from './sources.ts'

const folders = readdirSync(ROOT, { withFileTypes: true })
  .filter(entry => entry.isDirectory())
  .map(entry => entry.name)
/** made by the build, so absent from a clean clone */
const MADE = ['build', 'node_modules']

test('every path that a document names in backticks exists', () => {
  const problems: string[] = []
  for (const document of documents()) {
    const text = read(document)
    for (const match of text.matchAll(/`([\w.@-]+(?:\/[\w.@-]*)+|[\w-]+\.(?:ts|md|json|sh))`/g)) {
      const path = match[1] as string
      const [first = ''] = path.split('/')
      if (MADE.includes(first)) continue
      // `secure-channel.ts` alone, beside a table that named its folder, is no path from the root
      const rooted = path.includes('/') ? folders.includes(first) : existsSync(join(ROOT, path)) || /^[A-Z]/.test(path)
      const near = existsSync(join(ROOT, dirname(document), path))
      if (rooted && !near && !existsSync(join(ROOT, path)))
        problems.push(`${document}:${lineAt(text, match.index)} ${path}`)
    }
  }
  expectNone('paths that do not exist', problems)
})

test('the tree in ARCHITECTURE.md is the tree on disk', () => {
  const [, tree = ''] = /## The tree\n([\s\S]*?)\n#/.exec(read('ARCHITECTURE.md')) ?? []
  const rows = [...tree.matchAll(/^\|([^|]*)\|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, folder = '']) => folder),
  )
  const rooms = new Set(productSources().map(file => file.split('/').slice(0, -1).slice(0, 2).join('/')))
  // folders of these have no rows of their own
  const whole = ['images']
  const wanted = [...rooms].filter(room => !whole.some(part => room.startsWith(`${part}/`)))
  expectNone(
    'folders without a row',
    wanted.filter(room => !rows.includes(room)),
  )
  expectNone(
    'rows without a folder of sources',
    rows.filter(row => row !== 'test' && !rooms.has(row)),
  )
})

test('every relative link resolves, to its heading too', () => {
  const problems: string[] = []
  const anchorsOf = (path: string) =>
    [...read(path).matchAll(/^#+ (.*)$/gm)].map(match =>
      (match[1] as string)
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    )
  for (const document of documents()) {
    // code spans may hold what looks like a link
    const text = read(document).replace(/`[^`\n]*`/g, span => ' '.repeat(span.length))
    for (const match of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      const link = match[1] as string
      if (/^[a-z]+:/.test(link)) continue
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? document : join(dirname(document), path)
      const found = existsSync(join(ROOT, target)) && (!anchor || anchorsOf(target).includes(anchor))
      if (!found) problems.push(`${document}:${lineAt(text, match.index)} ${link}`)
    }
  }
  expectNone('links that lead nowhere', problems)
})

test('every npm script that a document names is in package.json', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  const problems = documents().flatMap(document => {
    const text = read(document)
    return [...text.matchAll(/npm run ([\w:-]+)/g)]
      .filter(match => !((match[1] as string) in scripts))
      .map(match => `${document}:${lineAt(text, match.index)} npm run ${match[1]}`)
  })
  expectNone('scripts that do not exist', problems)
})

test('every threat in SECURITY.md names a test that exists', () => {
  const text = read('SECURITY.md')
  const problems: string[] = []
  let count = 0
  for (const match of text.matchAll(/test: (\S+) "([^"]+)"/g)) {
    count++
    const [, path = '', title = ''] = match
    const where = `SECURITY.md:${lineAt(text, match.index)} ${path} "${title}"`
    if (!existsSync(join(ROOT, path))) problems.push(`${where}: no such file`)
    else if (!read(path).includes(title)) problems.push(`${where}: no such title in it`)
  }
  expect(count, 'SECURITY.md names no tests').toBeGreaterThan(10)
  for (const match of text.matchAll(/^- \*\*[A-Z]+\d+\*\*[\s\S]*?(?=\n- |\n\n|\n$)/gm)) {
    if (!/test: \S+ "|no test: /.test(match[0])) {
      problems.push(`SECURITY.md:${lineAt(text, match.index)} names no test: ${match[0].slice(0, 60)}`)
    }
  }
  expectNone('threats without a test', problems)
})

test('every threat in SECURITY.md has an id of its own', () => {
  const text = read('SECURITY.md')
  const lines = new Map<string, number>()
  const problems: string[] = []
  for (const match of text.matchAll(/^- \*\*([A-Z]+\d+)\*\*/gm)) {
    const [, id = ''] = match
    const line = lineAt(text, match.index)
    const first = lines.get(id)
    if (first === undefined) lines.set(id, line)
    else problems.push(`SECURITY.md:${line} ${id} is the id of line ${first} already`)
  }
  expect(lines.size, 'SECURITY.md lists no threats').toBeGreaterThan(10)
  expectNone('ids of threats that exist twice', problems)
})

test('the documents of a project are all there', () => {
  const wanted = ['README', 'ARCHITECTURE', 'SECURITY', 'CONTRIBUTING', 'CHANGELOG', 'DECISIONS', 'protocol/SPEC']
  expectNone(
    'documents that are missing',
    wanted.map(name => `${name}.md`).filter(name => !existsSync(join(ROOT, name))),
  )
})

test('the version of the package has its entry in the changelog', () => {
  const { version } = JSON.parse(read('package.json')) as { version: string }
  expect(read('CHANGELOG.md'), `CHANGELOG.md has no entry for ${version}`).toMatch(
    new RegExp(`^## ${version.replaceAll('.', '\\.')}\\b`, 'm'),
  )
})

test('every mortar command line in the README is one that the program knows, and it shows each noun', () => {
  const globals = ['--broker', '--identity', '--passphrase-file', '--json', '--quiet', '--help']
  const text = read('README.md')
  const problems: string[] = []
  const shown = new Set<string>()
  for (const match of text.matchAll(/^mortar ([^\n#]*)/gm)) {
    const words =
      (match[1] as string)
        .split(/ --(?: |$)| > /)[0]
        ?.trim()
        .split(/\s+/) ?? []
    const row = SUBCOMMANDS.find(({ name }) => name === words.slice(0, name.split(' ').length).join(' '))
    const where = `README.md:${lineAt(text, match.index)} mortar ${words.join(' ')}`
    if (!row) {
      problems.push(`${where}: no such command`)
      continue
    }
    shown.add(row.name.split(' ')[0] as string)
    const known = [...globals, ...row.options.flatMap(option => option.flags.match(/--[\w-]+/g) ?? [])]
    for (const word of words) if (word.startsWith('--') && !known.includes(word)) problems.push(`${where}: ${word}`)
  }
  const nouns = SUBCOMMANDS.filter(({ hidden }) => !hidden).map(({ name }) => name.split(' ')[0] as string)
  problems.push(...nouns.filter(noun => !shown.has(noun)).map(noun => `README.md does not show mortar ${noun}`))
  expectNone('command lines', problems)
})
