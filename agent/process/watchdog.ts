/** Tells PID 1 that the event loop turns, so that an agent that hangs is ended and started again (WatchdogSec of its unit). */
import { execFile } from 'node:child_process'

/** Does nothing where PID 1 does not ask for it. */
export function startWatchdog(): void {
  const everyMs = Number(process.env.WATCHDOG_USEC ?? 0) / 1_000 / 3
  if (!(everyMs > 0)) return
  const { NOTIFY_SOCKET: socket = '' } = process.env
  // Node has no datagrams on local sockets
  const tell = () => execFile('/usr/bin/systemd-notify', ['WATCHDOG=1'], { env: { NOTIFY_SOCKET: socket } }, () => {})
  setInterval(tell, everyMs).unref()
}
