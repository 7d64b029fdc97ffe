/** Standard output and error, written without losing anything: each write waits until the reader took it. */

/** Writes all bytes. A reader that went away ends the program quietly, as SIGPIPE ends others. */
export function writeTo(stream: NodeJS.WriteStream, bytes: Uint8Array | string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, error => (error ? reject(error) : resolve()))
  })
}

/** exit code of a program ended by SIGPIPE */
const BROKEN_PIPE = 141

/** Makes a reader that went away (`mortar … | head`) an exit instead of a stack trace. */
export function endOnBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', error => process.exit('code' in error && error.code === 'EPIPE' ? BROKEN_PIPE : 1))
  }
}
