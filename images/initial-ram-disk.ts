/**
 * The initial RAM disk: loads a fixed list of modules, mounts the root partition, starts the system. It is made here
 * rather than by initramfs-tools because that one's udev and file system check took a quarter of a boot.
 */
import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { run } from './steps.ts'

/** klibc's small programs, which Debian installs for the same purpose */
const PROGRAMS = ['sh', 'insmod', 'mount', 'sleep', 'run-init']

const initScript = (modules: readonly string[]) => `#!/bin/sh
mount -t devtmpfs devtmpfs /dev
${modules.map(module => `insmod /modules/${module}`).join('\n')}
waits=0
while [ ! -b /dev/vda2 ] && [ $waits != 100 ]; do
  sleep 0.1
  waits=$((waits + 1))
done
mount -t ext4 -o rw,noatime,errors=remount-ro /dev/vda2 /root || echo 'mortar: no root file system on /dev/vda2'
exec run-init /root /sbin/init
`

/** Writes the initial RAM disk for the kernel in `tree` to `path`, not compressed: unpacking costs more than reading. */
export async function makeInitialRamDisk(tree: string, modules: readonly string[], path: string): Promise<void> {
  const [version] = await readdir(join(tree, 'usr/lib/modules'))
  if (!version) throw new Error('the base tree has no kernel modules')
  const archive = new CpioArchive()
  for (const folder of ['dev', 'root', 'bin', 'modules', 'lib']) archive.add(folder, 0o040755)
  archive.add('dev/console', 0o020600, { major: 5, minor: 1 })
  for (const program of PROGRAMS)
    archive.add(`bin/${program}`, 0o100755, await readFile(join(tree, 'usr/lib/klibc/bin', program)))
  const libraries = join(tree, existsSync(join(tree, 'lib')) ? 'lib' : 'usr/lib')
  for (const name of (await readdir(libraries)).filter(entry => /^klibc-.*\.so$/.test(entry)))
    archive.add(`lib/${name}`, 0o100755, await readFile(join(libraries, name)))
  const names: string[] = []
  for (const file of await inLoadingOrder(tree, version, modules)) {
    names.push(basename(file))
    archive.add(`modules/${basename(file)}`, 0o100644, await readFile(join(tree, file)))
  }
  archive.add('init', 0o100755, Buffer.from(initScript(names)))
  await writeFile(path, archive.bytes())
}

/** The modules' files with all they depend on, each after what it depends on. */
async function inLoadingOrder(tree: string, version: string, modules: readonly string[]): Promise<string[]> {
  const files = new Set<string>()
  for (const module of modules) {
    const lines = await run('chroot', [tree, 'modprobe', '--ignore-install', '-S', version, '--show-depends', module])
    for (const line of lines.split('\n')) {
      const file = /^insmod (\S+)/.exec(line)?.[1]
      if (file) files.add(file)
    }
  }
  return [...files]
}

/** A cpio archive in the "newc" format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst). */
class CpioArchive {
  readonly #parts: Buffer[] = []
  #count = 0

  add(name: string, mode: number, content: Buffer | { major: number; minor: number } = Buffer.alloc(0)): void {
    const data = Buffer.isBuffer(content) ? content : Buffer.alloc(0)
    const device = Buffer.isBuffer(content) ? { major: 0, minor: 0 } : content
    const nameBytes = Buffer.from(`${name}\0`)
    this.#count++
    // inode, mode, uid, gid, links, time, size, device of the file (2), device that it is (2), length of the name, checksum
    const fields = [this.#count, mode, 0, 0, 1, 0, data.length, 0, 0, device.major, device.minor, nameBytes.length, 0]
    const header = Buffer.from(`070701${fields.map(field => field.toString(16).padStart(8, '0')).join('')}`)
    this.#parts.push(padded(Buffer.concat([header, nameBytes])), padded(data))
  }

  bytes(): Buffer {
    this.add('TRAILER!!!', 0)
    return Buffer.concat(this.#parts)
  }
}

const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])
