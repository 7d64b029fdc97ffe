/** The bits of a WebSocket frame's header (RFC 6455 section 5.2), for those who read frames themselves. */

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const
/** in the first byte: the last frame of its message; bits that nobody may set; and of the opcode the control frames */
export const FIN = 0x80
export const RESERVED = 0x70
export const CONTROL = 0x08
/** in the second byte */
export const MASKED = 0x80
/** lengths in the second byte that announce a longer field, of two bytes or of eight */
export const SHORT_FORM = 126
export const LONG_FORM = 127
/** of a control frame's payload */
export const MOST_CONTROL_BYTES = 125
