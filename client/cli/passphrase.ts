/** Asks for a passphrase on the terminal, without echo, into bytes that can be wiped. */
import { closeSync, openSync } from 'node:fs'
import { ReadStream } from 'node:tty'
import { equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { copySecret, newSecret, wipe } from '../../protocol/core/secret.ts'

const LARGEST_BYTES = 1024
const END_OF_INPUT = 0x04
const INTERRUPT = 0x03
/** Ctrl-U */
const KILL_LINE = 0x15
const BACKSPACES = [0x08, 0x7f]
const ENDS_OF_LINE = [0x0a, 0x0d]
/** exit code of a program ended by SIGINT */
const INTERRUPTED = 130

/** One line from the terminal, whatever standard input is. The caller wipes it. Fails with identity-locked without a terminal. */
export async function askPassphrase(prompt: string): Promise<Uint8Array> {
  let descriptor: number
  try {
    descriptor = openSync('/dev/tty', 'r')
  } catch (cause) {
    throw new MortarError('identity-locked', 'there is no terminal to ask on', { cause })
  }
  const terminal = new ReadStream(descriptor)
  // first, for who answers the prompt at once must not be shown either
  terminal.setRawMode(true)
  process.stderr.write(prompt)
  try {
    return await readLine(terminal)
  } finally {
    terminal.setRawMode(false)
    terminal.destroy()
    try {
      closeSync(descriptor)
    } catch {
      // destroy() closed it
    }
    process.stderr.write('\n')
  }
}

/** Asks twice. Fails with usage when the two differ or are empty. */
export async function askNewPassphrase(): Promise<Uint8Array> {
  const first = await askPassphrase('New passphrase: ')
  const second = await askPassphrase('Again: ')
  const same = equalBytes(first, second)
  wipe(second)
  if (same && first.length > 0) return first
  wipe(first)
  throw new MortarError('usage', same ? 'the passphrase is empty' : 'the two passphrases differ')
}

async function readLine(terminal: ReadStream): Promise<Uint8Array> {
  const line = newSecret(LARGEST_BYTES)
  let length = 0
  try {
    for await (const chunk of terminal) {
      const keys = chunk as Buffer
      try {
        for (const key of keys) {
          if (ENDS_OF_LINE.includes(key) || key === END_OF_INPUT) return copySecret(line.subarray(0, length))
          if (key === INTERRUPT) {
            terminal.setRawMode(false)
            process.exit(INTERRUPTED)
          }
          if (key === KILL_LINE) {
            wipe(line)
            length = 0
          } else if (BACKSPACES.includes(key)) length = withoutLastCharacter(line, length)
          else if (length < LARGEST_BYTES) line[length++] = key
        }
      } finally {
        wipe(keys)
      }
    }
    throw new MortarError('identity-locked', 'the terminal was closed')
  } finally {
    wipe(line)
  }
}

/** Length without the last UTF-8 character. */
function withoutLastCharacter(line: Uint8Array, length: number): number {
  let end = Math.max(0, length - 1)
  while (end > 0 && ((line[end] as number) & 0xc0) === 0x80) end--
  line.fill(0, end, length)
  return end
}
