/** The tables that must have the same rows: commands and handlers, routes, error codes, limits. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { COMMANDS } from '../../protocol/commands/index.ts'
import { ROUTES } from '../../protocol/control/api.ts'
import { ERRORS } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { object, z } from '../../protocol/core/schema.ts'
import { expectNone, productSources, ROOT, read } from './sources.ts'

/** Files of the product in which a table of this name is declared. */
const declaring = (name: string, folder: string) =>
  productSources().filter(
    file => file.startsWith(folder) && new RegExp(`^(export )?const ${name}\\b`, 'm').test(read(file)),
  )

/** Keys of the object literal `const NAME = {…}`, read from the text, since to import the file would start a program's parts. */
function keysOf(file: string, name: string): string[] {
  const text = read(file)
  const start = text.search(new RegExp(`^(?:export )?const ${name}\\b[^=]*=[^{]*\\{`, 'm'))
  const body = text.slice(text.indexOf('{', text.indexOf('=', start)) + 1)
  const keys: string[] = []
  let depth = 0
  let rest = ''
  for (const character of body) {
    if (character === '}' && depth === 0) break
    if ('{[('.includes(character)) depth++
    else if ('}])'.includes(character)) depth--
    else if (depth === 0) rest += character
  }
  for (const row of rest.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '').split(',')) {
    const key = /^\s*(?:'([^']+)'|([\w$]+))\s*(?::|$)/.exec(row)
    if (key) keys.push((key[1] ?? key[2]) as string)
  }
  return keys.sort()
}

test('each command has a handler, and each handler a command', () => {
  expect(existsSync(join(ROOT, 'agent')), 'agent/ is missing').toBe(true)
  const [file] = declaring('HANDLERS', 'agent/')
  expect(file, 'agent/ declares no HANDLERS').toBeDefined()
  expect(keysOf(file as string, 'HANDLERS'), `${file} against protocol/commands/index.ts`).toEqual(
    Object.keys(COMMANDS).sort(),
  )
})

test('the name of a command is its key, and its permission is one of the list', async () => {
  const { PERMISSIONS } = await import('../../protocol/control/roles.ts')
  for (const [key, command] of Object.entries(COMMANDS)) {
    expect(command.name).toBe(key)
    expect(PERMISSIONS).toContain(command.permission)
  }
})

/** Names of properties in a schema, with where they stand: `a` or `a.b`. */
function pathsOf(schema: unknown, above = ''): string[] {
  if (Array.isArray(schema)) return schema.flatMap(part => pathsOf(part, above))
  if (typeof schema !== 'object' || schema === null) return []
  return Object.entries(schema).flatMap(([key, value]) =>
    key === 'properties'
      ? Object.entries(value as object).flatMap(([name, part]) => [
          `${above}${name}`,
          ...pathsOf(part, `${above}${name}.`),
        ])
      : pathsOf(value, above),
  )
}

test('each parameter of a command that may name what rights bound is declared, and no message names any', () => {
  const bounded = /^(drive|serial|user|target|host|port)s?$/
  const naming = (schema: z.ZodType) =>
    pathsOf(z.toJSONSchema(schema, { unrepresentable: 'any' })).filter(path =>
      bounded.test(path.split('.').at(-1) ?? ''),
    )
  const problems = Object.values(COMMANDS).flatMap(command => [
    ...naming(command.params)
      .filter(path => !Object.hasOwn(command.names, path))
      .map(path => `${command.name}: ${path} is not declared`),
    ...Object.keys(command.names)
      .filter(name => !pathsOf(z.toJSONSchema(command.params, { unrepresentable: 'any' })).includes(name))
      .map(name => `${command.name}: declares ${name}, which it does not have`),
    ...Object.entries(command.toAgent).flatMap(([message, body]) =>
      naming(body).map(path => `${command.name}: message ${message} names ${path}, which nobody asks about`),
    ),
  ])
  expectNone('protocol/commands', problems)
  // the look at schemas sees what it is meant to see
  expect(naming(COMMANDS['drive-unlock'].params).sort()).toEqual(['drive', 'serial'])
  expect(naming(object({ a: z.array(object({ host: z.string() })).optional() }))).toEqual(['a.host'])
})

test('each route has a handler in the broker', () => {
  const tables = declaring('HANDLERS', 'broker/')
  expect(tables.length, 'broker/ declares no HANDLERS').toBeGreaterThan(0)
  const keys = tables.flatMap(file => keysOf(file, 'HANDLERS'))
  expect(keys.sort(), `${tables.join(', ')} against protocol/control/api.ts`).toEqual(Object.keys(ROUTES).sort())
})

test('each error code is used somewhere outside its table', () => {
  const text = productSources()
    .filter(file => file !== 'protocol/core/errors.ts')
    .map(read)
    .join('\n')
  const unused = Object.keys(ERRORS).filter(code => !text.includes(`'${code}'`))
  expectNone(
    'codes that nothing fails with',
    unused.map(code => `protocol/core/errors.ts: ${code}`),
  )
})

test('each error code is in SPEC §10, with its status and words, and no other', () => {
  const section = read('protocol/SPEC.md').split('\n## §10')[1] ?? ''
  const rows = [...section.matchAll(/^\| `([a-z-]+)` \| (\d+) \| (.*) \|$/gm)].map(row => row.slice(1, 4).join(' | '))
  const table = Object.entries(ERRORS).map(([code, row]) => `${code} | ${row.status} | ${row.says}`)
  expect(rows, 'protocol/SPEC.md §10 against protocol/core/errors.ts').toEqual(table)
})

test('each error says what and what to do, in one sentence without a full stop', () => {
  const bad = Object.entries(ERRORS).filter(
    ([, { says, todo }]) =>
      !/^[A-Zl]/.test(says) || !/^[A-Za-z]/.test(todo) || /[.!]$/.test(says) || /[.!]$/.test(todo),
  )
  expectNone(
    'sentences',
    bad.map(([code]) => `protocol/core/errors.ts: ${code}`),
  )
})

test('each limit is named in SPEC and enforced somewhere', () => {
  const specification = read('protocol/SPEC.md')
  const code = productSources()
    .filter(file => file !== 'protocol/core/limits.ts')
    .map(read)
    .join('\n')
  const problems = Object.entries(LIMITS).flatMap(([name]) => [
    ...(specification.includes(`\`${name}\``) ? [] : [`protocol/SPEC.md does not name ${name}`]),
    ...(code.includes(`LIMITS.${name}`) ? [] : [`protocol/core/limits.ts: nothing enforces ${name}`]),
  ])
  expectNone('limits', problems)
})

/** A number as the specification writes it: 65,535, or milliseconds in a larger unit. */
const written = (name: string, value: number): string[] => {
  if (!name.endsWith('Ms')) return [value.toLocaleString('en-GB')]
  return [`${(value / 1_000).toLocaleString('en-GB')} s`, `${value / 3_600_000} h`]
}

test('each limit is in SPEC with its number, close before its name', () => {
  const specification = read('protocol/SPEC.md')
  const problems = Object.entries(LIMITS).filter(([name, value]) => {
    const before = specification.split(`\`${name}\``)[0]?.slice(-160) ?? ''
    return !written(name, value).some(number => new RegExp(`(?<![\\d,])${number}(?![\\d,]*\\d)`).test(before))
  })
  expectNone(
    'limits whose number protocol/SPEC.md does not give',
    problems.map(([name, value]) => `${name}: ${written(name, value).join(' or ')}`),
  )
})

test('each route and each command has its row in SPEC', () => {
  const specification = read('protocol/SPEC.md')
  const routes = Object.values(ROUTES).filter(({ method, path, access }) => {
    return !specification.includes(`| \`${method} ${path.replace(/:(\w+)/g, '{$1}')}\` | ${access} |`)
  })
  const commands = Object.values(COMMANDS).filter(({ name, permission, takesSecret }) => {
    const row = new RegExp(`^\\|.*\`${name}\`.*\\| ${permission} \\| ${takesSecret ? 'yes' : 'no'} \\|`, 'm')
    return !row.test(specification)
  })
  expectNone('rows missing in protocol/SPEC.md §3.3 and §9', [
    ...routes.map(({ method, path }) => `${method} ${path}`),
    ...commands.map(({ name }) => name),
  ])
})

test('each label of a signature or derivation is in SPEC', () => {
  const specification = read('protocol/SPEC.md')
  // the console page's labels name entries of the browser's storage
  const files = productSources().filter(file => !file.startsWith('client/web/'))
  const problems = files.flatMap(file =>
    [...read(file).matchAll(/'(mortar [a-z ]+ v\d)'/g)]
      .filter(match => !specification.includes(`\`${match[1]}\``))
      .map(match => `${file}: ${match[1]}`),
  )
  expectNone('labels that SPEC does not name', problems)
})

test('each key of the broker configuration is in the README', () => {
  const keys = keysOf('broker/config.ts', 'configSchema')
  expect(keys.length, 'broker/config.ts declares no configSchema').toBeGreaterThan(5)
  expectNone(
    'keys that README.md does not explain',
    keys.filter(key => !read('README.md').includes(`\`${key}\``)),
  )
})
