/** known-vms.json beside the identity: the newest certificate of each VM that this device made or saw. */
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { allKnownVms, type KnownVms, withKnownVm } from '../vms/known-vms.ts'
import { readTrusted, writeWhole } from './files.ts'

const LARGEST_FILE_BYTES = 262_144

/** Fails with bad-config when the file makes no sense, denied when others can change it. */
export function knownVmsInFile(path: string): KnownVms {
  const readAll = async () => {
    const file = await readTrusted(path, LARGEST_FILE_BYTES)
    try {
      return file ? allKnownVms.parse(JSON.parse(decodeText(file.bytes))) : {}
    } catch (cause) {
      throw new MortarError('bad-config', `${path} cannot be read; it lists VMs and their newest certificates`, {
        cause,
      })
    }
  }
  return {
    async read(vm) {
      const all = await readAll()
      return Object.hasOwn(all, vm) ? (all[vm] ?? null) : null
    },
    async write(vm, known) {
      const all = await readAll()
      const next = withKnownVm(all, vm, known)
      if (next !== all) await writeWhole(path, encodeText(`${JSON.stringify(next, null, 2)}\n`))
    },
  }
}
