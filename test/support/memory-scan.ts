/** Looks for secrets in the memory of this very process (Linux): its own notes of them are masked, so that it does not find those. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

const MASK = 0x5a
const CHUNK_BYTES = 1 << 20
/** What is compared of a secret's bytes: an allocator writes its own into the first ones of what is freed. */
const FROM = 16
const TO = 32

interface Note {
  readonly name: string
  readonly masked: Uint8Array
}

export interface Found {
  /** how many different secrets of that name were noted, and how many of them are still in memory */
  readonly [name: string]: { readonly noted: number; readonly found: number }
}

export class MemoryScan {
  #notes: Note[] = []

  /** Remembers what to look for. `secret`: at least 32 bytes; what is longer is looked for by these. */
  note(name: string, secret: Uint8Array): void {
    const masked = new Uint8Array(new ArrayBuffer(128), 0, TO)
    for (let i = 0; i < TO; i++) masked[i] = (secret[i] as number) ^ MASK
    this.#notes.push({ name, masked })
  }

  /** Takes over what another one noted, under this name. */
  adopt(name: string, other: MemoryScan): void {
    for (const { masked } of other.#notes) this.#notes.push({ name, masked })
  }

  /** Goes through all writable memory and forgets the notes. */
  run(): Found {
    const notes = this.#notes
    this.#notes = []
    const found = new Set<Note>()
    const byStart = Map.groupBy(notes, ({ masked }) => startOf(masked))
    const likely = new Uint8Array(1 << 16)
    for (const start of byStart.keys()) likely[start & 0xffff] = 1
    const look = (bytes: Uint8Array, length: number) => {
      let last4 = 0
      for (let i = 0; i < length; i++) {
        last4 = (last4 << 8) | (bytes[i] as number)
        if (likely[last4 & 0xffff] === 0) continue
        for (const note of byStart.get(last4) ?? []) if (matches(note.masked, bytes, i - 3 - FROM)) found.add(note)
      }
    }
    eachChunk(look)
    const count = (list: readonly Note[], name: string) => list.filter(note => note.name === name).length
    const names = [...new Set(notes.map(({ name }) => name))]
    return Object.fromEntries(
      names.map(name => [name, { noted: count(notes, name), found: count([...found], name) }] as const),
    )
  }
}

/** The first four bytes that are compared, as one number. */
function startOf(masked: Uint8Array): number {
  let start = 0
  for (let i = FROM; i < FROM + 4; i++) start = (start << 8) | ((masked[i] as number) ^ MASK)
  return start
}

function matches(masked: Uint8Array, bytes: Uint8Array, offset: number): boolean {
  if (offset + FROM < 0) return false
  for (let i = FROM; i < TO; i++) if (((masked[i] as number) ^ MASK) !== bytes[offset + i]) return false
  return true
}

function eachChunk(look: (bytes: Uint8Array, length: number) => void): void {
  const memory = openSync('/proc/self/mem', 'r')
  const chunk = new Uint8Array(CHUNK_BYTES + TO)
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw.*$/.exec(line) ?? []
    if (from === '') continue
    const end = Number.parseInt(to, 16)
    for (let at = Number.parseInt(from, 16); at < end; at += CHUNK_BYTES) {
      const length = readAt(memory, chunk, at, end)
      if (length === 0) break
      look(chunk, length)
    }
  }
  closeSync(memory)
}

/** Zero for what the kernel shows to nobody. */
function readAt(memory: number, chunk: Uint8Array, at: number, end: number): number {
  try {
    return readSync(memory, chunk, 0, Math.min(chunk.length, end - at), at)
  } catch {
    return 0
  }
}
