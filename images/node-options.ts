/** Options of Node that are built into each program; nothing in the environment can add to them. */

/** `expose-gc`: a collection once a program is idle is worth 15 MiB. `disable-sigusr1`: the signal would open a debugger to everybody. */
const EVERY_PROGRAM = ['--expose-gc', '--disable-sigusr1'] as const
/** a small young generation is worth 15 MiB */
const SMALL = '--max-semi-space-size=1'

export const NODE_OPTIONS = {
  // V8's compilers cost an idle agent 3 MiB; it switches them on with the first session (agent/process/frugal.ts)
  'mortar-agent': [...EVERY_PROGRAM, SMALL, '--no-sparkplug', '--no-maglev', '--no-opt'],
  // many strangers' sockets outlive a small one, and sessions then wait for full collections: p99 under load 11 ms, with 8 MiB 8 ms
  'mortar-broker': [...EVERY_PROGRAM, '--max-semi-space-size=8'],
  mortar: [...EVERY_PROGRAM, SMALL],
} as const satisfies Record<string, readonly string[]>
