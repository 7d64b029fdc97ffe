/** The owner's certificate arrives: kept for the owner's devices and grantees, and obeyed where it decides between boots. SPEC §2.4, §3.2 */
import { decodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { VmRecord } from '../store/vm-store.ts'
import type { VmBook } from '../vms/vm-book.ts'
import type { Agents } from './agents.ts'
import { certified } from './enrolment.ts'

/** Fails with certificate-invalid, or boot-contested when it decides nothing and the owner has to. */
export function certify({ book, agents }: { book: VmBook; agents: Agents }, record: VmRecord, textual: string): void {
  if (record.certificate === textual) return
  const { changes, decided } = certified(record, textual, decode(textual))
  book.note(record.id, decided ? 'the owner confirmed this boot' : 'agent certified by the owner', changes)
  if (decided) agents.settle(record.id)
}

function decode(textual: string): Uint8Array {
  try {
    return decodeBase64url(textual)
  } catch (cause) {
    throw new MortarError('certificate-invalid', 'not base64url', { cause })
  }
}
