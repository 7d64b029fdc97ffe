/** Bytes of an SSH connection between a local stream and a joined pair of kind ssh. SPEC §4 */
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'

/** Copies both ways until the VM's end closes. Fails with the broker's code, such as ssh-not-authorised, or connection-lost. */
export async function pipeSsh(transport: Transport, input: Readable, output: Writable): Promise<void> {
  const sending = sendAll(transport, input)
  // whoever reads the local end may be gone first; that ends the pair and is no error
  output.on('error', () => transport.close())
  try {
    for (;;) {
      const packet = await transport.receive()
      if (!packet) return
      if (!output.write(packet) && !output.destroyed) await Promise.race([once(output, 'drain'), once(output, 'close')])
    }
  } finally {
    transport.close()
    input.destroy()
    await sending
  }
}

/** Sends until the local end closes, which closes the pair. */
async function sendAll(transport: Transport, input: Readable): Promise<void> {
  try {
    for await (const chunk of input) {
      const bytes = chunk as Uint8Array
      for (let offset = 0; offset < bytes.length; offset += LIMITS.packetBytes) {
        transport.send(bytes.subarray(offset, offset + LIMITS.packetBytes))
        await transport.drained()
      }
    }
  } catch {
    // the pair is over; what ended it is told by the receiving half
  }
  transport.close()
}
