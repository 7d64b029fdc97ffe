/** The suite that the command-line client encrypts with: the one place to change when a native one is shared. */
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Suite } from '../../protocol/channel/suite.ts'

export const suite: Suite = nobleSuite
