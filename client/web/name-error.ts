/** Only the code of an error crosses the channel, so the page adds which thing it was about. */
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'

/** Runs `work`; an error without detail gets `thing` as its detail. */
export async function about<T>(thing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (thrown) {
    const error = asMortarError(thrown)
    throw error.detail === '' ? new MortarError(error.code, thing, { cause: error }) : error
  }
}
