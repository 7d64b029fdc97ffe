/**
 * Memory of an idle agent: it shares a small guest with its users. Until the first session nothing runs often enough to
 * be worth V8's optimising compilers, whose threads and code cost about 8 MiB; sessions then get them.
 */
import { setFlagsFromString } from 'node:v8'
import { signSeldom } from '../protocol/core/signing.ts'

/** To be called first. */
export function startFrugally(): void {
  setFlagsFromString('--no-opt')
  setFlagsFromString('--no-maglev')
  signSeldom()
}

/** From now on speed counts. May be repeated. */
export function allowOptimising(): void {
  setFlagsFromString('--opt')
  setFlagsFromString('--maglev')
}
