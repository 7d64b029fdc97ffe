/** What a person is told who has to decide which boot is the VM. */
import type { Candidate, Standing } from './boots.ts'

const WARNING =
  'Compare the words with those that the VM wrote to its console as it enrolled. Whoever serves you that console can show you others: ' +
  'who cannot trust the broker looks at the console on the host, or deletes the VM.'

/** What it means that the owner has to decide; null when there is nothing to decide. */
export function explain(name: string, kind: Standing['kind']): string | null {
  if (kind === 'contested') {
    return (
      `More than one boot says that it is ${name}, and the keys show that somebody has a copy of one. Or ${name} lost its ` +
      `state when it restarted first, or was copied as a whole. The one that you confirm gets what you send: keys of drives, ` +
      `files, commands. ${WARNING}`
    )
  }
  if (kind === 'unproven') {
    return (
      `${name} started again, and this boot does not prove that it is the VM you knew. It may have lost the key that the boot ` +
      `before left on its disk, or the disk was put back. Or somebody runs another machine in its place, and would get what you ` +
      `send: keys of drives, files, commands. ${WARNING}`
    )
  }
  return null
}

/** The candidates that a person means by words: all six, or the first of them, at least two. */
export function matching(candidates: readonly Candidate[], typed: string): readonly Candidate[] {
  const words = typed.trim().toLowerCase().split(/\s+/)
  if (words.length < 2) return []
  return candidates.filter(candidate => `${candidate.words} `.startsWith(`${words.join(' ')} `))
}
