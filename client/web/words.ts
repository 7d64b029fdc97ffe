/** A typed line as the words of a program's argv, quoted as in a shell, but with nothing expanded. POSIX.1-2024 2.2 */
import { MortarError } from '../../protocol/core/errors.ts'

/** what a backslash takes its meaning from inside double quotes */
const ESCAPABLE = '"\\$`'

/** The words; none for an empty line. Fails with usage when a quote is not closed or the line ends in a backslash. */
export function splitWords(line: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote: "'" | '"' | undefined
  for (let i = 0; i < line.length; i++) {
    const character = line[i] as string
    const next = line[i + 1]
    if (quote === undefined && /\s/.test(character)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (quote === undefined && (character === "'" || character === '"')) {
      quote = character
      word ??= ''
    } else if (character === quote) quote = undefined
    else if (character === '\\' && quote !== "'" && (quote === undefined || ESCAPABLE.includes(next ?? ' '))) {
      if (next === undefined) throw new MortarError('usage', 'the line ends in a backslash')
      word = (word ?? '') + next
      i++
    } else word = (word ?? '') + character
  }
  if (quote !== undefined) throw new MortarError('usage', `a ${quote} is not closed`)
  if (word !== undefined) words.push(word)
  return words
}

/** True when a word holds what a shell would act on, and a program without a shell will not. */
export function wantsShell(words: readonly string[]): boolean {
  return words.some(word => /^([|&;<>]+|\d?>+&?\d?.*|.*[;|&]|[*?~]+.*|.*\$[\w({].*|.*\*.*)$/.test(word))
}
