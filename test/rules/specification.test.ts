/** SPEC.md and the code cite each other: no section that nothing implements, no citation of a section that is none. */
import { test } from 'vitest'
import { FRAMES } from '../../protocol/mux/frame.ts'
import { allSources, expectNone, lineAt, read } from './sources.ts'

const SPEC = 'protocol/SPEC.md'
const text = read(SPEC)
const sections = [...text.matchAll(/^#{2,3} §([\d.]+) /gm)].map(match => match[1] as string)
const citations = allSources()
  .filter(file => !file.startsWith('test/rules/'))
  .flatMap(file => {
    const source = read(file)
    // one citation may name several: SPEC §5, §6.1
    return [...source.matchAll(/SPEC (§[\d.]*\d(?:(?:, | and )§[\d.]*\d)*)/g)].flatMap(match =>
      [...(match[1] as string).matchAll(/§([\d.]*\d)/g)].map(number => ({
        section: number[1] as string,
        where: `${file}:${lineAt(source, match.index)}`,
      })),
    )
  })

test('every section that the code cites exists', () => {
  const wrong = citations.filter(citation => !sections.includes(citation.section))
  expectNone(
    `citations of sections that ${SPEC} does not have`,
    wrong.map(({ where, section }) => `${where} cites §${section}`),
  )
})

test.each([
  ['code', (file: string) => !file.startsWith('test/')],
  ['a test', (file: string) => file.startsWith('test/')],
])('every section of the specification is cited by %s', (_, isOne) => {
  const leaves = sections.filter(section => !sections.some(other => other.startsWith(`${section}.`)))
  const cited = new Set(citations.filter(({ where }) => isOne(where)).map(({ section }) => section))
  // §1 holds words only
  const silent = leaves.filter(section => section !== '1' && !cited.has(section))
  expectNone(
    'sections that are not',
    silent.map(section => `${SPEC}:${lineAt(text, text.search(new RegExp(`^#+ §${section} `, 'm')))} §${section}`),
  )
})

test('sections are numbered in order, and each reference within the text leads somewhere', () => {
  const problems: string[] = []
  for (const match of text.matchAll(/(?<!RFC \d+ |revision \d+ )§(\d[\d.]*\d|\d)/g)) {
    const foreign = /RFC \d+( |\.)?\(?$/.test(text.slice(0, match.index))
    const own = sections.includes(match[1] as string)
    if (!own && !foreign && match[1] !== '4.2.1') problems.push(`${SPEC}:${lineAt(text, match.index)} §${match[1]}`)
  }
  expectNone('references', problems)
  const order = sections.map(section => section.split('.').map(Number))
  for (let i = 1; i < order.length; i++) {
    const [[a = 0, b = 0], [c = 0, d = 0]] = [order[i - 1] as number[], order[i] as number[]]
    if (c < a || (c === a && d <= b)) problems.push(`§${sections[i]} after §${sections[i - 1]}`)
  }
  expectNone('order', problems)
})

test('the table of frames in §7.1 is the one of the code', () => {
  const body = (least: number, most: number) =>
    least === most ? `${least}` : `${least} to ${most.toLocaleString('en-GB')}`
  const missing = Object.entries(FRAMES).filter(([name, row]) => {
    const cells = `| ${row.type} | ${name.toUpperCase()} | ${row.scope} | ${body(row.least, row.most)} | ${row.flags === 0 ? '0' : 'lane, 0 or 1'} |`
    return !text.includes(cells)
  })
  expectNone(
    `${SPEC} §7.1 against protocol/mux/frame.ts`,
    missing.map(([name]) => name),
  )
})
