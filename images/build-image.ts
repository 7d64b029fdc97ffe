/**
 * Step two of a brick: base tree + agent → one bootable qcow2, without loop devices or device-mapper.
 * GPT disk: an EFI system partition that syslinux boots by BIOS (kernel, initial RAM disk), and the ext4 root made from a tree.
 */
import { chmod, copyFile, cp, mkdir, open, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RECIPE } from './debian-12/recipe.ts'
import { makeInitialRamDisk } from './initial-ram-disk.ts'
import { type Progress, requireTools, run } from './steps.ts'

const MiB = 2 ** 20
const ESP = { startBytes: MiB, sizeBytes: 64 * MiB }
const ROOT_START = ESP.startBytes + ESP.sizeBytes
/** the backup partition table at the end of the disk */
const TAIL_BYTES = MiB

export interface ImageParts {
  readonly baseTar: string
  readonly agentBinary: string
  /** scratch directory, the caller's to remove */
  readonly workDir: string
  readonly imagePath: string
  readonly test: boolean
  /** lets the agent's own `doctor --brick` look at the tree before it becomes an image */
  readonly selfTest: boolean
}

/** Writes the image to `imagePath`. Root only. */
export async function buildImage(parts: ImageParts, progress: Progress): Promise<void> {
  requireTools({
    sgdisk: 'gdisk',
    'mkfs.vfat': 'dosfstools',
    mcopy: 'mtools',
    syslinux: 'syslinux',
    mke2fs: 'e2fsprogs',
    'qemu-img': 'qemu-utils',
  })
  const tree = join(parts.workDir, 'tree')
  const disk = join(parts.workDir, 'disk.raw')
  progress('unpacking the base tree and adding the agent')
  await makeTree(tree, parts)
  progress('writing the file systems')
  await makeSparse(disk, RECIPE.diskBytes)
  await partition(disk)
  await bootCode(disk)
  await run('dd', [
    `if=${await makeEsp(tree, parts)}`,
    `of=${disk}`,
    'bs=1M',
    `seek=${ESP.startBytes / MiB}`,
    'conv=notrunc,sparse',
    'status=none',
  ])
  // kernel and RAM disk are on the EFI system partition
  for (const name of ['boot', 'vmlinuz', 'vmlinuz.old', 'initrd.img', 'initrd.img.old'])
    await rm(join(tree, name), { recursive: true, force: true })
  await mkdir(join(tree, 'boot'))
  await makeRoot(tree, disk)
  progress('converting to qcow2')
  await run('qemu-img', ['convert', '-O', 'qcow2', '-o', 'cluster_size=65536', disk, parts.imagePath])
}

async function makeTree(tree: string, parts: ImageParts): Promise<void> {
  await mkdir(tree, { recursive: true })
  await run('tar', ['-C', tree, '--numeric-owner', '--xattrs', '-xf', parts.baseTar])
  await cp(new URL('debian-12/tree', import.meta.url).pathname, tree, { recursive: true, force: true })
  await copyFile(parts.agentBinary, join(tree, 'usr/sbin/mortar-agent'))
  await chmod(join(tree, 'usr/sbin/mortar-agent'), 0o755)
  await mkdir(join(tree, 'drives'), { recursive: true })
  const units = join(tree, 'etc/systemd/system')
  for (const unit of RECIPE.maskedUnits) {
    await rm(join(units, unit), { force: true })
    await symlink('/dev/null', join(units, unit))
  }
  const wanted = join(units, 'multi-user.target.wants')
  await mkdir(wanted, { recursive: true })
  for (const unit of RECIPE.lateUnits) await symlink('/dev/null', join(wanted, unit))
  const generators = join(tree, 'etc/systemd/system-generators')
  await mkdir(generators, { recursive: true })
  for (const generator of RECIPE.maskedGenerators) await symlink('/dev/null', join(generators, generator))
  for (const unit of RECIPE.enabledUnits) await run('chroot', [tree, 'systemctl', 'enable', '--quiet', unit])
  await writeFile(join(tree, 'etc/machine-id'), '')
  if (parts.selfTest) await run('chroot', [tree, '/usr/sbin/mortar-agent', 'doctor', '--brick'])
}

async function makeEsp(tree: string, { workDir, test }: ImageParts): Promise<string> {
  const esp = join(workDir, 'esp.fat')
  await makeSparse(esp, ESP.sizeBytes)
  await run('mkfs.vfat', ['-n', 'MORTAR-ESP', esp])
  const [kernel] = (await readdir(join(tree, 'boot')))
    .filter(name => name.startsWith('vmlinuz-'))
    .map(name => join(tree, 'boot', name))
  if (!kernel) throw new Error('the base tree has no kernel')
  const config = join(workDir, 'syslinux.cfg')
  const initialRamDisk = join(workDir, 'initrd.img')
  await makeInitialRamDisk(tree, RECIPE.initialModules, initialRamDisk)
  const options = test ? `${RECIPE.kernelOptions} ${RECIPE.testKernelOptions}` : RECIPE.kernelOptions
  await writeFile(
    config,
    `SERIAL 0 115200\nDEFAULT mortar\nPROMPT 0\nLABEL mortar\n  LINUX vmlinuz\n  INITRD initrd.img\n  APPEND ${options}\n`,
  )
  for (const [source, target] of [
    [kernel, 'vmlinuz'],
    [initialRamDisk, 'initrd.img'],
    [config, 'syslinux.cfg'],
  ] as const) {
    await run('mcopy', ['-i', esp, source, `::${target}`])
  }
  await run('syslinux', ['--install', esp])
  return esp
}

async function partition(disk: string): Promise<void> {
  const sectors = (bytes: number) => bytes / 512
  await run('sgdisk', [
    `--new=1:${sectors(ESP.startBytes)}:${sectors(ESP.startBytes + ESP.sizeBytes) - 1}`,
    '--typecode=1:ef00',
    // attribute 2: the BIOS boot code starts this partition
    '--attributes=1:set:2',
    `--new=2:${sectors(ROOT_START)}:${sectors(RECIPE.diskBytes - TAIL_BYTES) - 1}`,
    '--typecode=2:8304',
    disk,
  ])
}

/** The first 440 bytes of the disk: syslinux's code that starts the partition with attribute 2. */
async function bootCode(disk: string): Promise<void> {
  await run('dd', [
    'if=/usr/lib/syslinux/mbr/gptmbr.bin',
    `of=${disk}`,
    'bs=440',
    'count=1',
    'conv=notrunc',
    'status=none',
  ])
}

/** The root file system, written straight into its place on the disk. */
async function makeRoot(tree: string, disk: string): Promise<void> {
  const sizeBytes = RECIPE.diskBytes - ROOT_START - TAIL_BYTES
  await run('mke2fs', [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-L',
    'mortar-root',
    '-E',
    `offset=${ROOT_START},lazy_itable_init=1,lazy_journal_init=1`,
    '-d',
    tree,
    disk,
    `${sizeBytes / 1024}k`,
  ])
}

async function makeSparse(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'w')
  await file.truncate(sizeBytes)
  await file.close()
}
