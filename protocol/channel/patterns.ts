/**
 * Noise handshake patterns as data (Noise revision 34, sections 7 and 9). One line each: what is known beforehand, then
 * the messages in turn, the initiator's first. One loop (handshake.ts) runs them all.
 */
import { CIPHERS, type CipherName, HASHES, type HashName } from './suite.ts'

export const TOKENS = ['e', 's', 'ee', 'es', 'se', 'ss', 'psk'] as const
export type Token = (typeof TOKENS)[number]

interface PatternRow {
  /** static keys known before the first message */
  readonly initiatorKnown?: boolean
  readonly responderKnown?: boolean
  readonly messages: readonly string[]
}

const PATTERNS: Readonly<Record<string, PatternRow>> = {
  N: { responderKnown: true, messages: ['e es'] },
  K: { initiatorKnown: true, responderKnown: true, messages: ['e es ss'] },
  X: { responderKnown: true, messages: ['e es s ss'] },
  NN: { messages: ['e', 'e ee'] },
  NK: { responderKnown: true, messages: ['e es', 'e ee'] },
  NX: { messages: ['e', 'e ee s es'] },
  XN: { messages: ['e', 'e ee', 's se'] },
  XK: { responderKnown: true, messages: ['e es', 'e ee', 's se'] },
  XX: { messages: ['e', 'e ee s es', 's se'] },
  KN: { initiatorKnown: true, messages: ['e', 'e ee se'] },
  KK: { initiatorKnown: true, responderKnown: true, messages: ['e es ss', 'e ee se'] },
  KX: { initiatorKnown: true, messages: ['e', 'e ee se s es'] },
  IN: { messages: ['e s', 'e ee se'] },
  IK: { responderKnown: true, messages: ['e es s ss', 'e ee se'] },
  IX: { messages: ['e s', 'e ee se s es'] },
  // deferred (section 18.1): a 1 puts off the Diffie-Hellman that authenticates that end
  NK1: { responderKnown: true, messages: ['e', 'e ee es'] },
  NX1: { messages: ['e', 'e ee s', 'es'] },
  X1N: { messages: ['e', 'e ee', 's', 'se'] },
  X1K: { responderKnown: true, messages: ['e es', 'e ee', 's', 'se'] },
  XK1: { responderKnown: true, messages: ['e', 'e ee es', 's se'] },
  X1K1: { responderKnown: true, messages: ['e', 'e ee es', 's', 'se'] },
  X1X: { messages: ['e', 'e ee s es', 's', 'se'] },
  XX1: { messages: ['e', 'e ee s', 'es s se'] },
  X1X1: { messages: ['e', 'e ee s', 'es s', 'se'] },
  K1N: { initiatorKnown: true, messages: ['e', 'e ee', 'se'] },
  K1K: { initiatorKnown: true, responderKnown: true, messages: ['e es', 'e ee', 'se'] },
  KK1: { initiatorKnown: true, responderKnown: true, messages: ['e', 'e ee se es'] },
  K1K1: { initiatorKnown: true, responderKnown: true, messages: ['e', 'e ee es', 'se'] },
  K1X: { initiatorKnown: true, messages: ['e', 'e ee s es', 'se'] },
  KX1: { initiatorKnown: true, messages: ['e', 'e ee se s', 'es'] },
  K1X1: { initiatorKnown: true, messages: ['e', 'e ee s', 'se es'] },
  I1N: { messages: ['e s', 'e ee', 'se'] },
  I1K: { responderKnown: true, messages: ['e es s', 'e ee', 'se'] },
  IK1: { responderKnown: true, messages: ['e s', 'e ee se es'] },
  I1K1: { responderKnown: true, messages: ['e s', 'e ee es', 'se'] },
  I1X: { messages: ['e s', 'e ee s es', 'se'] },
  IX1: { messages: ['e s', 'e ee se s', 'es'] },
  I1X1: { messages: ['e s', 'e ee s', 'se es'] },
}

export const PATTERN_NAMES: readonly string[] = Object.keys(PATTERNS)

export interface Pattern {
  readonly name: string
  readonly initiatorKnown: boolean
  readonly responderKnown: boolean
  /** tokens of each message; the initiator sends the even ones, and all of a one-way pattern's */
  readonly messages: readonly (readonly Token[])[]
  readonly pskCount: number
  /** only the initiator ever sends */
  readonly oneWay: boolean
}

/** A protocol name such as Noise_XKpsk3_25519_ChaChaPoly_SHA256 (section 8). Throws a RangeError for what we do not run. */
export function parseProtocolName(name: string): { pattern: string; cipher: CipherName; hash: HashName } {
  const [noise, pattern = '', curve, cipherName, hashName = '', ...rest] = name.split('_')
  const cipher = CIPHERS.find(known => known === cipherName)
  if (noise !== 'Noise' || curve !== '25519' || !cipher || !Object.hasOwn(HASHES, hashName) || rest.length > 0) {
    throw new RangeError(`${name} is not a protocol we run`)
  }
  findPattern(pattern)
  return { pattern, cipher, hash: hashName as HashName }
}

/**
 * The pattern of a name such as `XKpsk3`: a row of the table with its modifiers applied. psk0 goes to the start of the
 * first message, pskN to the end of message N (Noise 9.1). Throws a RangeError for a name that is none.
 */
export function findPattern(name: string): Pattern {
  const match = /^([A-Z]1?(?:[A-Z]1?)?)((?:psk\d)(?:\+psk\d)*)?$/.exec(name)
  const row = match ? PATTERNS[match[1] as string] : undefined
  if (!match || !row) throw new RangeError(`no Noise pattern is called ${name}`)
  const messages = row.messages.map(line => line.split(' ') as Token[])
  const modifiers = match[2]?.split('+') ?? []
  for (const modifier of modifiers) {
    const place = Number(modifier.slice(3))
    const message = messages[Math.max(0, place - 1)]
    if (!message) throw new RangeError(`${name} has no message ${place}`)
    if (place === 0) message.unshift('psk')
    else message.push('psk')
  }
  return {
    name,
    initiatorKnown: row.initiatorKnown ?? false,
    responderKnown: row.responderKnown ?? false,
    messages,
    pskCount: modifiers.length,
    oneWay: row.messages.length === 1,
  }
}
