/** How much memory this process holds, garbage left out: when that is collected is chance. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

export function heldBytes(): number {
  // the second one waits until what the first has found is freed
  for (let time = 0; time < 2; time++) collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
