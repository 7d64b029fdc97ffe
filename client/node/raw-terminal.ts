/** This program's terminal in raw mode: every key goes through, and every byte comes out as it is. */
import { spawnSync } from 'node:child_process'

/** Puts the terminal on standard input into raw mode; the returned function puts it back as it was. */
export function enterRawMode(stdin: NodeJS.ReadStream): () => void {
  const before = stty('-g')
  stdin.setRawMode(true)
  // Node leaves the translation of line feeds on, which ruins full-screen programs
  stty('-opost')
  return () => {
    stdin.setRawMode(false)
    if (before !== '') stty(before)
  }
}

/** Runs stty on our terminal; empty when it cannot be run. */
function stty(argument: string): string {
  const { stdout } = spawnSync('stty', [argument], { stdio: ['inherit', 'pipe', 'ignore'], encoding: 'utf8' })
  return stdout?.trim() ?? ''
}
