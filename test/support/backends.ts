/** The two back ends of the cryptographic seam. */
import { nobleAlgorithmsOf } from '../../protocol/channel/noble-algorithms.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { nativeAlgorithms, nativeSuite } from '../../protocol/native/suite.ts'
import type { Backend } from './noise-vector.ts'

export const BACKENDS = {
  noble: { suite: nobleSuite, algorithmsOf: nobleAlgorithmsOf },
  native: { suite: nativeSuite, algorithmsOf: nativeAlgorithms },
} as const satisfies Record<string, Backend>
