/** Bytes of an SSH connection between a local stream and a joined pair of kind ssh. SPEC §4 */
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { wallClock } from '../host/clock.ts'

/** from the end of the local input to the end of the pair, unless the other end closes it first */
const LINGER_MS = 1_000

/** Copies both ways until the VM's end closes. Fails with the broker's code, such as ssh-not-authorised, or connection-lost. */
export async function pipeSsh(transport: Transport, input: Readable, output: Writable): Promise<void> {
  const sending = sendAll(transport, input)
  // whoever reads the local end may be gone first; that ends the pair and is no error
  output.on('error', () => transport.close())
  try {
    for (;;) {
      const packet = await transport.receive()
      // whoever called may end the program or the socket next
      if (!packet) return await flushed(output)
      if (!output.write(packet) && !output.destroyed) await Promise.race([once(output, 'drain'), once(output, 'close')])
    }
  } finally {
    transport.close()
    input.destroy()
    await sending
  }
}

/** Sends until the local end closes, which closes the pair after a while: what the VM or the broker still says is heard. */
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
  wallClock.after(LINGER_MS, () => transport.close())
}

function flushed(output: Writable): Promise<void> {
  return new Promise(resolve => {
    if (output.destroyed) resolve()
    else output.write(new Uint8Array(0), () => resolve())
  })
}
