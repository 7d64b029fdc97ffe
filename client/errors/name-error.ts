/** Only the code of an error crosses the channel, so the client adds which thing it was about: what it asked for. */
import { asMortarError, type ErrorCode, MortarError } from '../../protocol/core/errors.ts'

/** Runs `work`; an error without detail gets `thing` as its detail, or what `more` has for its code. */
export async function about<T>(
  thing: string,
  work: () => Promise<T>,
  more: Partial<Record<ErrorCode, string>> = {},
): Promise<T> {
  try {
    return await work()
  } catch (thrown) {
    const error = asMortarError(thrown)
    throw error.detail === '' ? new MortarError(error.code, more[error.code] ?? thing, { cause: error }) : error
  }
}
