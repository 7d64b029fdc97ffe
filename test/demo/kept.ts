/** A demo that was left running: where it notes itself, and how it is ended later. */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { object, z } from '../../protocol/core/schema.ts'
import { removeDomainsOf } from '../support/domains.ts'

const NOTE = '/var/lib/mortar-demo/running.json'

const noteSchema = object({
  folder: z.string(),
  /** processes of the demo, each with the program that it must still be */
  processes: z.array(object({ pid: z.int(), program: z.string() })),
})
export type Note = z.output<typeof noteSchema>

export async function noteKept(note: Note): Promise<void> {
  await mkdir(dirname(NOTE), { recursive: true })
  await writeFile(NOTE, JSON.stringify(note), { mode: 0o600 })
}

export async function readKept(): Promise<Note | undefined> {
  return existsSync(NOTE) ? noteSchema.parse(JSON.parse(await readFile(NOTE, 'utf8'))) : undefined
}

/** Ends processes, VMs and files of a demo that was kept. False when there is none. */
export async function stopKept(): Promise<boolean> {
  const note = await readKept()
  if (!note) return false
  for (const { pid, program } of note.processes) {
    if (await isStill(pid, program)) process.kill(pid, 'SIGTERM')
    for (let tries = 0; tries < 100 && (await isStill(pid, program)); tries++) await delay(100)
  }
  await removeDomainsOf(note.folder)
  await rm(note.folder, { recursive: true, force: true })
  await rm(NOTE, { force: true })
  return true
}

/** Whether a pid is still the process that was noted: pids are used again. */
async function isStill(pid: number, program: string): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return commandLine.split('\0')[0] === program
}
