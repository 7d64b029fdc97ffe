/** What libvirt's refusals mean to us: its error numbers and texts to our codes. */
import { type ErrorCode, MortarError } from '../../../protocol/core/errors.ts'

/** virErrorNumber, the ones that we tell apart */
export const ERROR_NUMBERS = { noDomain: 42, noNetwork: 43, operationInvalid: 55, noFilter: 62 } as const

/** libvirt's own refusal, with its number so that the driver can tell them apart. */
export class LibvirtRefusal extends MortarError {
  readonly number: number
  constructor(number: number, message: string) {
    super('libvirt-failed', `${message} (libvirt error ${number})`)
    this.number = number
  }
}

/** Looked through from above; texts are libvirt's English ones (9.0), the numbers alone say too little. */
const MEANINGS: readonly {
  readonly code: ErrorCode
  readonly number?: number
  readonly text?: RegExp
  /** what libvirt's text does not say */
  readonly advice?: string
}[] = [
  { code: 'not-found', number: ERROR_NUMBERS.noDomain },
  { code: 'no-space', text: /No space left/ },
  { code: 'storage-denied', text: /(access storage file|Could not open|can't open) .*Permission denied/ },
  { code: 'qemu-missing', text: /Cannot check QEMU binary|No emulator found/ },
  {
    code: 'libvirt-failed',
    text: /limit locked memory/,
    advice: "this host lets no memory be locked: allow it, or set lock_memory = false in the broker's configuration",
  },
  { code: 'vm-state', number: ERROR_NUMBERS.operationInvalid },
]

/** The refusal as the error that the broker switches on; itself (libvirt-failed) when it means nothing more special. */
export function readRefusal(refusal: LibvirtRefusal): MortarError {
  const meaning = MEANINGS.find(
    ({ number, text }) => (number === undefined || number === refusal.number) && (!text || text.test(refusal.detail)),
  )
  if (!meaning) return refusal
  const detail = [refusal.detail, meaning.advice].filter(Boolean).join('; ')
  return new MortarError(meaning.code, detail, { cause: refusal })
}
