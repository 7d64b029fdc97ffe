/** What `network-probe.pl` found: attempts on the network from inside a VM, or from a namespace in its place. */
import { readFileSync } from 'node:fs'
import { object, z } from '../../protocol/core/schema.ts'

/** the program */
export const PROBE = new URL('network-probe.pl', import.meta.url).pathname
export const PROBE_TEXT = readFileSync(PROBE, 'utf8')

const findingSchema = object({
  attempt: z.string(),
  /** open, refused, silent, sent, answered, or the error of the system */
  state: z.string().optional(),
  /** what was read from who answered */
  came: z.string().optional(),
  /** of a scan: open ports, and how many are in which other state */
  open: z.array(z.int()).optional(),
  rest: z.record(z.string(), z.int()).optional(),
  /** frames that arrived, as hex */
  frames: z.array(z.string()).optional(),
})
export type Finding = z.output<typeof findingSchema>

/** One for each attempt, in order. */
export function readFindings(stdout: string): Finding[] {
  return stdout
    .trim()
    .split('\n')
    .map(line => findingSchema.parse(JSON.parse(line)))
}
