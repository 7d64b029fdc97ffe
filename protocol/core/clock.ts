/** Time as it is passed in, so that tests are exact. */
export interface Clock {
  /** ms since 1970 */
  now(): number
  /** Calls back once after `ms`; the returned function cancels. Does not keep a program alive. */
  after(ms: number, callback: () => void): () => void
}
