/** The suite that the command-line client encrypts with: Node's own cryptography. */

import type { Suite } from '../../protocol/channel/suite.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'

export const suite: Suite = nativeSuite
