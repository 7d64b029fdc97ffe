/** Imported first: the page's policy forbids eval, so the schema checker must not even try it. */
import { z } from '../../protocol/core/schema.ts'

z.config({ jitless: true })
