/** What the rules look at: the source files, their imports, and how a rule says what is wrong. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

export const ROOT = new URL('../..', import.meta.url).pathname
/** the parts of the product; test/ may import all of them */
export const PARTS = ['agent', 'broker', 'client', 'images', 'protocol'] as const

export interface Import {
  /** file that imports, from the repository's root */
  readonly file: string
  readonly line: number
  /** as written */
  readonly specifier: string
  /** file imported, from the root; null for packages and node: */
  readonly target: string | null
  /** npm package or `node:…`; null for files */
  readonly package: string | null
  readonly typeOnly: boolean
}

/** Paths from the root of all files below `folder` for which `wanted` holds, sorted. */
export function filesBelow(folder: string, wanted: (path: string) => boolean = () => true): string[] {
  const top = join(ROOT, folder)
  if (!existsSync(top)) return []
  return readdirSync(top, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter(path => !path.includes('node_modules/') && wanted(path))
    .sort()
}

export const isSource = (path: string) => /\.tsx?$/.test(path)
export const productSources = (): string[] => PARTS.flatMap(part => filesBelow(part, isSource))
export const allSources = (): string[] => [...productSources(), ...filesBelow('test', isSource)]
export const documents = (): string[] => [
  ...readdirSync(ROOT).filter(name => name.endsWith('.md')),
  ...[...PARTS, 'test'].flatMap(folder => filesBelow(folder, path => path.endsWith('.md'))),
]
export const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
export const lineAt = (text: string, offset: number): number => text.slice(0, offset).split('\n').length

const FROM =
  /^(?:import|export)\s+(type\s+)?((?:[\w$]+\s*,\s*)?(?:\{[^}]*\}|\*(?:\s+as\s+[\w$]+)?|[\w$]+))\s+from\s*['"]([^'"]+)['"]/gm
const BARE = /^import\s+['"]([^'"]+)['"]/gm
const DYNAMIC = /\bimport\(\s*['"]([^'"]+)['"]/g

/** The imports of a source text: import, export … from, import(), and whether only types come in. */
export function importsOf(file: string, text: string): Import[] {
  const found: Import[] = []
  const add = (offset: number, specifier: string, typeOnly: boolean) =>
    found.push({ file, line: lineAt(text, offset), specifier, typeOnly, ...resolve(file, specifier) })
  for (const match of text.matchAll(FROM)) {
    const [, type, names = '', specifier = ''] = match
    const list = /^\{([^}]*)\}$/.exec(names.trim())?.[1]
    const items = list?.split(',').filter(item => item.trim() !== '')
    add(match.index, specifier, type !== undefined || items?.every(item => /^\s*type\s/.test(item)) === true)
  }
  for (const match of text.matchAll(BARE)) add(match.index, match[1] ?? '', false)
  for (const match of text.matchAll(DYNAMIC)) add(match.index, match[1] ?? '', false)
  return found
}

function resolve(file: string, specifier: string): Pick<Import, 'target' | 'package'> {
  if (specifier.startsWith('.')) return { target: join(dirname(file), specifier), package: null }
  if (specifier.startsWith('node:')) return { target: null, package: specifier }
  const names = specifier.split('/')
  return { target: null, package: names.slice(0, specifier.startsWith('@') ? 2 : 1).join('/') }
}

export const allImports = (files: readonly string[]): Import[] => files.flatMap(file => importsOf(file, read(file)))

/** Fails with every problem on a line of its own. */
export function expectNone(rule: string, problems: readonly string[]): void {
  if (problems.length > 0) throw new Error(`${rule}:\n${problems.map(problem => `  ${problem}`).join('\n')}`)
}
