/** A login shell on a PTY in a VM. SPEC §9.3 */
import type { Params } from '../../protocol/commands/command.ts'
import { terminal } from '../../protocol/commands/terminal.ts'
import { encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { Exit } from './exec.ts'

export interface Terminal {
  /** Sends keys. Resolves once the agent took them. */
  write(keys: Uint8Array): Promise<void>
  resize(cols: number, rows: number): void
  /** Hangs up: the shell gets SIGHUP, if there is a connection to tell the VM by; without one it ends after an hour. */
  close(): void
  /** how the shell ended. Fails with connection-lost, truncated. */
  readonly ended: Promise<Exit>
}

/**
 * Opens a terminal. `onOutput` takes what the screen shall show; the next comes once it resolves, so a flood in the VM
 * slows the VM and not the screen. Fails with user-unknown, denied.
 */
export async function openTerminal(
  session: ClientSession,
  params: Params<typeof terminal>,
  onOutput: (bytes: Uint8Array) => void | Promise<void>,
): Promise<Terminal> {
  const call = await session.open(terminal, params)
  let over = false
  const ended = (async () => {
    let exit: Exit | undefined
    try {
      for await (const item of call.received()) {
        if (item.type === 'message') exit = item.body
        else if (item.type === 'gap') await onOutput(gapNote(item.count))
        else await onOutput(item.bytes)
      }
    } catch (thrown) {
      call.reset('connection-lost')
      throw thrown
    } finally {
      over = true
    }
    if (!exit) throw new MortarError('truncated', 'the shell ended without saying how')
    return exit
  })()
  // told to whoever awaits it; until then it must not end the program
  ended.catch(() => undefined)
  return {
    write: keys => (over ? Promise.resolve() : call.write(keys)),
    resize(cols, rows) {
      if (over) return
      try {
        call.post('resize', { cols, rows })
      } catch {
        // the call failed in this moment, which the reading half tells
      }
    },
    close: () => call.reset('going-away'),
    ended,
  }
}

/** What the screen shows where output is missing; ends what a lost part may have begun. */
function gapNote(count: number): Uint8Array {
  return encodeText(`\x18\x1b[0m\r\n[mortar: ${count} bytes of output are missing here]\r\n`)
}
