/** Block devices of the guest by their serial numbers, as sysfs shows them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'

export interface Device {
  /** 20 hex digits: the broker's name for the drive */
  readonly serial: string
  /** as /dev/sda */
  readonly path: string
  readonly sizeBytes: number
}

const SERIAL = /^[0-9a-f]{20}$/
const SECTOR_BYTES = 512

/** All devices that carry a serial of the broker's. `sysfs`: /sys. */
export function listDevices(sysfs = '/sys', dev = '/dev'): Device[] {
  const block = join(sysfs, 'block')
  return readdirSync(block).flatMap(name => {
    const serial = serialOf(join(block, name))
    const path = join(dev, name)
    if (!SERIAL.test(serial) || !existsSync(path)) return []
    return [{ serial, path, sizeBytes: Number(read(join(block, name, 'size')).toString()) * SECTOR_BYTES }]
  })
}

/** The one device of a serial among them. Fails with drive-failed when several claim it. */
export function theDevice(devices: readonly Device[], serial: string): Device | undefined {
  const [device, another] = devices.filter(each => each.serial === serial && each.sizeBytes > 0)
  if (another) throw new MortarError('drive-failed', `several devices have serial ${serial}`)
  return device
}

/** virtio-blk has a file of it; SCSI has the unit serial number page, whose text follows 4 bytes of header (SPC-4 7.8.15). */
function serialOf(folder: string): string {
  const text = read(join(folder, 'serial')).toString() || read(join(folder, 'device/vpd_pg80')).subarray(4).toString()
  return text.replace(/[\0\s]/g, '')
}

function read(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}

export interface Mount {
  readonly mountPoint: string
  /** major and minor number of the device, as 254:0 */
  readonly device: string
  /** of the mount, or of the file system as a whole */
  readonly readOnly: boolean
}

/** Where a device is mounted, by the text of mountinfo (proc_pid_mountinfo(5)), or null. */
export function mountOf(device: string, mountinfo: string): Mount | null {
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [, source, superOptions = ''] = after.split(' ')
    if (source !== device) continue
    const [, , numbers = '', , path = '', options = ''] = before.split(' ')
    return {
      mountPoint: path.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
      device: numbers,
      readOnly: [options, superOptions].some(list => list.split(',').includes('ro')),
    }
  }
  return null
}
