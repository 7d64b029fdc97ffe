/** Exit codes of `mortar`: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied or identity, 5 unreachable or timeout, 6 state, 7 unconfirmed. */
import { constants } from 'node:os'
import { ERRORS, type ErrorCode } from '../../protocol/core/errors.ts'
import type { Exit } from '../programs/exec.ts'

const USAGE = 2
const UNCONFIRMED = 7
const BY_STATUS: Readonly<Record<number, number>> = { 401: 4, 403: 4, 404: 3, 409: 6, 503: 5, 504: 5 }

/** The exit code for an error of the table. */
export function exitCodeOf(code: ErrorCode): number {
  if (code === 'usage' || code === 'bad-request') return USAGE
  if (code === 'unconfirmed') return UNCONFIRMED
  const byStatus = BY_STATUS[ERRORS[code].status]
  return byStatus ?? (code.startsWith('identity-') || code === 'broker-mismatch' ? 4 : 1)
}

/** For `exec`: 127 and 126 as shells use them, 125 when Mortar failed before or instead of the program. */
export function execExitCodeOf(code: ErrorCode): number {
  if (code === 'exec-not-found') return 127
  return code === 'exec-failed' || code === 'directory-unknown' ? 126 : 125
}

/** A program's own end as shells tell it: its status, or 128 and the number of the signal. */
export function exitCodeOfProgram({ code, signal }: Exit): number {
  if (code !== null) return code
  const signals: Readonly<Record<string, number>> = constants.signals
  return 128 + (signals[signal ?? ''] ?? 0)
}
