/** The one demo that runs on this machine: noted from its start, so that whatever ends it, what it made can be found and removed. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { object, z } from '../../protocol/core/schema.ts'
import { removeDomainsOf } from '../support/domains.ts'
import { ensureLibvirt } from '../support/libvirt-daemons.ts'
import { removeNetworkOf } from '../support/networks.ts'

/** everything of a demo lives below it */
export const FOLDER = '/var/lib/mortar-demo'
const NOTE = join(FOLDER, 'running.json')
/** of ours, the programs that may outlive a demo */
const PROGRAMS = ['mortar', 'mortar-broker']
const STOP_MS = 120_000
const END_MS = 10_000

const noteSchema = object({
  /** the demo itself; `started` tells it from a later process of the same pid */
  demo: object({ pid: z.int(), started: z.string() }),
  /** true once it ended and left all running */
  kept: z.boolean(),
})
type Note = z.output<typeof noteSchema>

/** Notes this demo as the one that runs, after removing what an interrupted one left. Fails when there is one. */
export async function claim(): Promise<void> {
  const note = await readNote()
  if (note && (await isAlive(note.demo))) throw new Error('a demo is running; stop it with: npm run demo -- --stop')
  if (note?.kept) throw new Error('a demo was left running; stop it with: npm run demo -- --stop')
  if ((await leftovers()).length > 0) {
    console.log('Removing what an interrupted demo left behind')
    await removeAll()
  }
  await mkdir(FOLDER, { recursive: true, mode: 0o711 })
  await writeNote(false)
}

/** Lets what runs live on after this process. */
export function keepRunning(): Promise<void> {
  return writeNote(true)
}

/** This demo is over and has removed what it made. */
export async function release(): Promise<void> {
  await rm(NOTE, { force: true })
}

/** Ends a demo that runs, was kept or was interrupted, and removes what it made. False when there is none. */
export async function stop(): Promise<boolean> {
  const note = await readNote()
  if (note && (await isAlive(note.demo))) {
    end(note.demo.pid, 'SIGTERM')
    for (const end = Date.now() + STOP_MS; Date.now() < end && (await isAlive(note.demo)); ) await delay(100)
  }
  const found = note !== undefined || (await leftovers()).length > 0
  await removeAll()
  return found
}

async function removeAll(): Promise<void> {
  for (const folder of await leftovers()) {
    await endProgramsOf(folder)
    await ensureLibvirt()
    await removeDomainsOf(folder)
    await removeNetworkOf(folder)
    await rm(folder, { recursive: true, force: true })
  }
  await release()
}

/** Folders of demos. */
async function leftovers(): Promise<string[]> {
  const names = await readdir(FOLDER).catch(() => [])
  return names.filter(name => name.startsWith('mortar-')).map(name => join(FOLDER, name))
}

/** Ends our programs that were started with a file of the folder. */
async function endProgramsOf(folder: string): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const pid of await programsOf(folder)) end(pid, signal)
    for (const end = Date.now() + END_MS; Date.now() < end && (await programsOf(folder)).length > 0; ) await delay(100)
  }
}

function end(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it ended by itself
  }
}

async function programsOf(folder: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name)).map(Number)
  const found = await Promise.all(
    pids.map(async pid => {
      const [program = '', ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
      return PROGRAMS.includes(basename(program)) && args.some(argument => argument.startsWith(`${folder}/`))
        ? [pid]
        : []
    }),
  )
  return found.flat()
}

async function writeNote(kept: boolean): Promise<void> {
  const note: Note = { demo: { pid: process.pid, started: await startOf(process.pid) }, kept }
  await writeFile(NOTE, JSON.stringify(note), { mode: 0o600 })
}

async function readNote(): Promise<Note | undefined> {
  try {
    return noteSchema.parse(JSON.parse(await readFile(NOTE, 'utf8')))
  } catch {
    return undefined
  }
}

async function isAlive({ pid, started }: Note['demo']): Promise<boolean> {
  return (await startOf(pid)) === started
}

/** Clock ticks from the machine's boot to the start of a process, as text; nothing when there is none. */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // the name in parentheses may hold spaces; after it the state is the first field, the start the 20th
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // one that has ended and waits for its parent to ask
  return fields[0] === 'Z' ? '' : (fields[19] ?? '')
}
