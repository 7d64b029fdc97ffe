/** A typed line as argv: quotes as in a shell, nothing expanded. */
import { expect, test } from 'vitest'
import { splitWords, wantsShell } from '../../client/web/words.ts'

test.each<[string, string[]]>([
  ['', []],
  ['   ', []],
  ['uname -a', ['uname', '-a']],
  ['  ls\t-l  ', ['ls', '-l']],
  [`echo 'a b' "c d"`, ['echo', 'a b', 'c d']],
  [`echo ''`, ['echo', '']],
  [`echo a'b'"c"d`, ['echo', 'abcd']],
  [`echo 'it'\\''s'`, ['echo', "it's"]],
  [String.raw`echo a\ b`, ['echo', 'a b']],
  [String.raw`echo "\$HOME \" \\ \n"`, ['echo', String.raw`$HOME " \ \n`]],
  [String.raw`echo '\n'`, ['echo', String.raw`\n`]],
  ['echo $HOME *.txt | wc', ['echo', '$HOME', '*.txt', '|', 'wc']],
])('%s', (line, words) => {
  expect(splitWords(line)).toEqual(words)
})

test.each([`echo 'a`, `echo "a`, 'echo a\\', `echo "a\\"`])('%s is not complete', line => {
  expect(() => splitWords(line)).toThrow(expect.objectContaining({ code: 'usage' }))
})

test.each<[string, boolean]>([
  ['uname -a', false],
  ['ls | wc', true],
  ['ls > out', true],
  ['make 2>&1', true],
  ['echo $HOME', true],
  ['ls *.txt', true],
  ['a; b', true],
  ['a && b', true],
  ['date +%s', false],
])('%s: is a shell missed? %s', (line, missed) => {
  expect(wantsShell(splitWords(line))).toBe(missed)
})
