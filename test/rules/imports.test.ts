/** Who may import whom. What the broker cannot import it cannot use, so this test is part of the security model. */
import { join } from 'node:path'
import { build } from 'esbuild'
import { expect, test } from 'vitest'
import {
  allImports,
  allSources,
  expectNone,
  type Import,
  importsOf,
  isSource,
  productSources,
  ROOT,
  read,
} from './sources.ts'

const at = ({ file, line, specifier }: Import) => `${file}:${line} imports ${specifier}`
const imports = allImports(productSources())
const targetOf = (item: Import) => item.target ?? ''
const inFolder = (path: string, folder: string) => path === folder || path.startsWith(`${folder}/`)

/** what can decrypt or needs a decrypted session: out of the broker's reach */
const DECRYPTING = [
  'protocol/channel',
  'protocol/native',
  'protocol/mux',
  'protocol/session.ts',
  'protocol/call.ts',
  'protocol/commands',
]
const PROTOCOL_PACKAGES = [
  '@noble/ciphers',
  '@noble/curves',
  '@noble/hashes',
  '@noble/post-quantum',
  '@scure/bip39',
  'cborg',
  'zod',
]
/** parts that each part may import besides itself */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  agent: ['protocol'],
  broker: ['protocol'],
  client: ['protocol'],
  images: ['protocol'],
}
/** the one folder of protocol/ that may use Node's cryptography and sockets, and who may import it: the programs that run on Node */
const NATIVE = {
  folder: 'protocol/native',
  packages: ['node:crypto', 'node:http', 'node:https', 'node:net'],
  importers: ['agent', 'client/node'],
}
/** the only folders of the client that may use Node */
const CLIENT_ON_NODE = ['client/node', 'client/cli']
/** folders that may be given type-only imports of a package beside its wrapper, and why */
const SHARED_PACKAGES: Readonly<Record<string, { files: readonly string[]; why: string }>> = {
  zod: { files: ['protocol/core/schema.ts'], why: 'values through schema.ts; types (z.infer and the like) anywhere' },
  '@noble/ciphers': {
    files: ['protocol/channel/noble-suite.ts', 'protocol/channel/noble-algorithms.ts'],
    why: 'what our protocol needs apart from what only published vectors need',
  },
  '@noble/curves': {
    files: ['protocol/core/signing.ts', 'protocol/channel/noble-suite.ts'],
    why: 'signatures, which the broker may use, apart from key agreement, which it may not',
  },
  '@noble/hashes': {
    files: ['protocol/core/signing.ts', 'protocol/channel/noble-suite.ts', 'protocol/channel/noble-algorithms.ts'],
    why: 'the same splits as @noble/curves and @noble/ciphers',
  },
}

test('the scanner finds every import that esbuild finds', async () => {
  const sources = allSources().filter(file => !file.endsWith('.d.ts'))
  const result = await build({
    entryPoints: sources.map(file => join(ROOT, file)),
    absWorkingDir: ROOT,
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    outdir: 'unused',
    logLevel: 'silent',
    loader: { '.css': 'empty' },
  })
  const problems: string[] = []
  for (const [file, { imports: found }] of Object.entries(result.metafile.inputs)) {
    if (!isSource(file)) continue
    const ours = allImports([file]).filter(item => !item.typeOnly)
    for (const item of found) {
      if (item.kind !== 'import-statement' && item.kind !== 'dynamic-import') continue
      const seen = ours.some(own => own.specifier === item.path || own.target === item.path)
      if (!seen) problems.push(`${file}: ${item.path}`)
    }
  }
  expectNone('imports that the scanner of the rules misses', problems)
})

test('the scanner tells types from values', () => {
  const kinds = importsOf(
    'a/b.ts',
    "import type { A } from './a.ts'\nimport { type B, c } from './b.ts'\nimport {\n  type D,\n} from 'd'\nexport * from './e.ts'\nconst f = await import('@f/g/h')\n",
  )
  expect(kinds.map(({ line, target, package: name, typeOnly }) => [line, target ?? name, typeOnly])).toEqual([
    [1, 'a/a.ts', true],
    [2, 'a/b.ts', false],
    [3, 'd', true],
    [6, 'a/e.ts', false],
    [7, '@f/g', false],
  ])
})

test('agent, broker and client import protocol/ and never each other', () => {
  const problems = imports.filter(item => {
    const part = item.file.split('/')[0] as string
    return item.target !== null && ![part, ...(MAY_IMPORT[part] ?? [])].includes(item.target.split('/')[0] as string)
  })
  expectNone('imports across parts', problems.map(at))
})

test('protocol/ imports itself and its few packages, nothing of a host', () => {
  const allowed = (file: string) => (inFolder(file, NATIVE.folder) ? NATIVE.packages : PROTOCOL_PACKAGES)
  const problems = imports.filter(
    item => item.file.startsWith('protocol/') && item.package !== null && !allowed(item.file).includes(item.package),
  )
  expectNone(`protocol/ may import ${PROTOCOL_PACKAGES.join(', ')}`, problems.map(at))
})

test('only what runs on Node imports what needs Node', () => {
  const problems = imports.filter(
    item =>
      inFolder(targetOf(item), NATIVE.folder) &&
      ![NATIVE.folder, ...NATIVE.importers].some(folder => inFolder(item.file, folder)),
  )
  expectNone(`${NATIVE.folder} is for ${NATIVE.importers.join(' and ')}`, problems.map(at))
})

test('the broker cannot reach what decrypts, not even through another file', () => {
  const bySource = Map.groupBy(imports, item => item.file)
  const problems: string[] = []
  const visit = (file: string, way: readonly string[], seen: Set<string>) => {
    if (seen.has(file)) return
    seen.add(file)
    for (const item of bySource.get(file) ?? []) {
      if (DECRYPTING.some(folder => inFolder(targetOf(item), folder))) problems.push(`${[...way, at(item)].join('; ')}`)
      else if (item.target) visit(item.target, [...way, at(item)], seen)
    }
  }
  const seen = new Set<string>()
  for (const file of bySource.keys()) if (file.startsWith('broker/')) visit(file, [], seen)
  expectNone(`broker/ must not reach ${DECRYPTING.join(', ')}`, problems)
})

test('shared client files and the console page use nothing of Node', () => {
  const problems = imports.filter(
    item =>
      item.file.startsWith('client/') &&
      !CLIENT_ON_NODE.some(folder => inFolder(item.file, folder)) &&
      (item.package?.startsWith('node:') || CLIENT_ON_NODE.some(folder => inFolder(targetOf(item), folder))),
  )
  expectNone(`only ${CLIENT_ON_NODE.join(' and ')} run on Node alone`, problems.map(at))
})

test('no file imports itself in a circle', () => {
  const graph = new Map<string, string[]>()
  for (const item of imports) if (item.target) graph.set(item.file, [...(graph.get(item.file) ?? []), item.target])
  const problems = new Set<string>()
  const done = new Set<string>()
  const visit = (file: string, way: readonly string[]) => {
    const start = way.indexOf(file)
    if (start >= 0) {
      problems.add([...way.slice(start), file].join(' → '))
      return
    }
    if (done.has(file)) return
    for (const next of graph.get(file) ?? []) visit(next, [...way, file])
    done.add(file)
  }
  for (const file of graph.keys()) visit(file, [])
  expectNone('import loops', [...problems])
})

test('each npm package is named in one file of a part, its wrapper', () => {
  const problems: string[] = []
  const byPackage = Map.groupBy(
    imports.filter(item => item.package !== null && !item.package.startsWith('node:')),
    item => item.package as string,
  )
  for (const [name, uses] of byPackage) {
    const shared = SHARED_PACKAGES[name]
    if (shared) {
      const others = uses.filter(item => !shared.files.includes(item.file) && !(name === 'zod' && item.typeOnly))
      problems.push(...others.map(item => `${at(item)}; it belongs into ${shared.files.join(' or ')} (${shared.why})`))
      continue
    }
    for (const [part, inPart] of Map.groupBy(uses, item => item.file.split('/')[0] as string)) {
      const files = new Set(inPart.map(item => item.file))
      if (files.size > 1) problems.push(...inPart.map(item => `${at(item)}; ${files.size} files of ${part}/ do`))
    }
  }
  expectNone('a package is named in one file, so that it can be changed in one place', problems)
})

test('each outside package has its row in SECURITY.md, with the files that name it', () => {
  const rows = read('SECURITY.md')
    .split('\n')
    .filter(line => line.startsWith('| '))
    .map(line => line.split(' | '))
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  const problems: string[] = []
  for (const name of Object.keys(dependencies)) {
    const row = rows.find(([names = '']) => names.replace('| ', '').split(', ').includes(name))
    if (!row) {
      problems.push(`SECURITY.md has no row for ${name}`)
      continue
    }
    const uses = imports.filter(item => item.package === name && !item.typeOnly)
    problems.push(
      ...uses
        .filter(item => !row.join().includes(`\`${item.file}\``))
        .map(item => `${at(item)}; SECURITY.md does not say so`),
    )
    const loaded = productSources().some(file => read(file).includes(name.split('/').at(-1) as string))
    if (uses.length === 0 && !loaded) problems.push(`package.json: nothing uses ${name}`)
  }
  expectNone('dependencies', problems)
})
