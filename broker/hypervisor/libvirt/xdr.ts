/** XDR (RFC 4506) as far as libvirt's calls need it: big-endian, everything padded to four bytes. */
import { MortarError } from '../../../protocol/core/errors.ts'

const TEXT_BYTES = 4 * 2 ** 20

export class XdrWriter {
  #parts: Buffer[] = []

  int(value: number): this {
    const part = Buffer.alloc(4)
    part.writeInt32BE(value | 0)
    this.#parts.push(part)
    return this
  }

  text(value: string): this {
    const bytes = Buffer.from(value, 'utf8')
    return this.int(bytes.length).opaque(bytes)
  }

  /** a value that may be absent */
  optionalText(value: string | null): this {
    return value === null ? this.int(0) : this.int(1).text(value)
  }

  /** bytes of a length both ends know */
  opaque(bytes: Buffer): this {
    this.#parts.push(bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4))
    return this
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts)
  }
}

export class XdrReader {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  int(): number {
    return this.opaque(4).readInt32BE()
  }

  text(): string {
    const length = this.int()
    if (length < 0 || length > TEXT_BYTES) throw new MortarError('libvirt-failed', 'a text of its answer is too long')
    return this.opaque(length).toString('utf8')
  }

  optionalText(): string | null {
    return this.int() === 0 ? null : this.text()
  }

  opaque(length: number): Buffer {
    const end = this.#offset + length
    if (end > this.#bytes.length) throw new MortarError('libvirt-failed', 'its answer is cut short')
    const bytes = this.#bytes.subarray(this.#offset, end)
    this.#offset = end + ((4 - (length % 4)) % 4)
    return bytes
  }
}
