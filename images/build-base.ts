/** Step one of a brick: the Debian root tree as a tar file, from Debian's packages. Needs the network once; cached by its recipe. */
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { RECIPE } from './debian-12/recipe.ts'
import { digestOf, type Progress, requireTools, run } from './steps.ts'

/** Builds or finds the base tree below `cacheDir`; returns the tar file's path. Root only. */
export async function buildBase(cacheDir: string, progress: Progress): Promise<string> {
  const { packages, suite } = RECIPE
  const tarPath = join(cacheDir, `base-${digestOf([JSON.stringify({ packages, suite }), hooks().join('\n')])}.tar`)
  if (existsSync(tarPath)) return tarPath
  requireTools({ mmdebstrap: 'mmdebstrap' })
  await mkdir(cacheDir, { recursive: true })
  const partial = `${tarPath}.${process.pid}.partial`
  progress('installing Debian into the base tree (about a minute, needs the network)')
  try {
    await run('mmdebstrap', [
      '--variant=minbase',
      `--include=${packages.join(',')}`,
      '--aptopt=Apt::Install-Recommends "false"',
      '--dpkgopt=path-exclude=/usr/share/man/*',
      '--dpkgopt=path-exclude=/usr/share/locale/*',
      '--dpkgopt=path-exclude=/usr/share/doc/*',
      '--dpkgopt=path-include=/usr/share/doc/*/copyright',
      ...hooks(),
      '--format=tar',
      suite,
      partial,
    ])
    await rename(partial, tarPath)
  } finally {
    await rm(partial, { force: true })
  }
  return tarPath
}

function hooks(): string[] {
  return [
    // the image gets an initial RAM disk of its own: let Debian's be small and quick to make
    `--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d" && echo MODULES=list > "$1/etc/initramfs-tools/conf.d/mortar"`,
    // where the agent has the accounts of people, in memory; a brick has none
    `--customize-hook=rmdir "$1/var/lib/extrausers" && ln -s /run/mortar-accounts "$1/var/lib/extrausers"`,
    // a brick has no identity: each VM makes its own
    `--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/var/lib/dbus/machine-id "$1"/var/lib/systemd/random-seed`,
    `--customize-hook=: > "$1/etc/machine-id"`,
    `--customize-hook=echo mortar > "$1/etc/hostname"`,
    `--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*.log`,
  ]
}
