/** The agent's version, which the build puts in. */
declare const MORTAR_VERSION: string | undefined

export const VERSION = typeof MORTAR_VERSION === 'undefined' ? '0.0.0-dev' : MORTAR_VERSION
