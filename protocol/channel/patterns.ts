/**
 * Noise handshake patterns as data (Noise revision 34, sections 7 and 9). One line each: what is known beforehand, then
 * the messages in turn, the initiator's first. One loop (handshake.ts) runs them all.
 */
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
}

export interface Pattern {
  readonly name: string
  readonly initiatorKnown: boolean
  readonly responderKnown: boolean
  /** tokens of each message; the initiator sends the even ones, and all of a one-way pattern's */
  readonly messages: readonly (readonly Token[])[]
  readonly pskCount: number
}

/**
 * The pattern of a name such as `XKpsk3`: a row of the table with its modifiers applied. psk0 goes to the start of the
 * first message, pskN to the end of message N (Noise 9.1). Throws a RangeError for a name that is none.
 */
export function findPattern(name: string): Pattern {
  const match = /^([A-Z]{1,2})((?:psk\d)(?:\+psk\d)*)?$/.exec(name)
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
  }
}
