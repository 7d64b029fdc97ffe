/**
 * `npm run build`: bundles the programs and makes them self-contained: esbuild to one file, injected into a stripped copy
 * of Node as a single-executable application. Also the console page. What is up to date is not built again.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { bundle, bundlePage } from './bundle.ts'
import { NODE_OPTIONS } from './node-options.ts'
import { asProgram, digestOf, type Progress, requireTools, run } from './steps.ts'

const ROOT = new URL('..', import.meta.url).pathname
const BUILD = join(ROOT, 'build')
const SEA_FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'
const require = createRequire(import.meta.url)

interface Target {
  readonly entry: string
  /** files that the program finds by node:sea's getRawAsset */
  readonly assets: Readonly<Record<string, string>>
}

const TARGETS = {
  'mortar-agent': {
    entry: 'agent/main.ts',
    assets: { 'pty.node': require.resolve('@lydell/node-pty-linux-x64/pty.node') },
  },
  'mortar-broker': { entry: 'broker/main.ts', assets: {} },
  mortar: { entry: 'client/cli/main.ts', assets: {} },
} as const satisfies Record<string, Target>

export interface Binaries {
  readonly agent: string
  readonly broker: string
  readonly client: string
  /** folder of the console page */
  readonly console: string
  readonly version: string
}

/** One program; its path and version. */
export async function buildProgram(
  name: keyof typeof TARGETS,
  progress: Progress,
): Promise<{ path: string; version: string }> {
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  await mkdir(BUILD, { recursive: true })
  await buildBinary(name, TARGETS[name], version, progress)
  return { path: join(BUILD, name), version }
}

/** All programs and the console page. */
export async function buildBinaries(progress: Progress): Promise<Binaries> {
  const agent = await buildProgram('mortar-agent', progress)
  const broker = await buildProgram('mortar-broker', progress)
  const client = await buildProgram('mortar', progress)
  await bundlePage(join(ROOT, 'client/web'), join(BUILD, 'console'))
  return {
    agent: agent.path,
    broker: broker.path,
    client: client.path,
    console: join(BUILD, 'console'),
    version: agent.version,
  }
}

async function buildBinary(
  name: keyof typeof TARGETS,
  target: Target,
  version: string,
  progress: Progress,
): Promise<void> {
  const code = await bundle(join(ROOT, target.entry), version)
  const options = NODE_OPTIONS[name]
  const digest = digestOf([code, process.version, await readFile(import.meta.filename, 'utf8'), options.join(' ')])
  const [binary, stamp] = [join(BUILD, name), join(BUILD, `${name}.digest`)]
  if (existsSync(binary) && existsSync(stamp) && (await readFile(stamp, 'utf8')) === digest) return
  progress(`building ${name}`)
  const script = join(BUILD, `${name}.cjs`)
  const blob = join(BUILD, `${name}.blob`)
  const [injected, partial] = [join(BUILD, `${name}.injected`), join(BUILD, `${name}.partial`)]
  const config = join(BUILD, `${name}.sea.json`)
  try {
    await writeFile(script, code)
    await writeFile(
      config,
      JSON.stringify({
        main: script,
        output: blob,
        assets: target.assets,
        disableExperimentalSEAWarning: true,
        useCodeCache: true,
        execArgv: options,
        execArgvExtension: 'none',
      }),
    )
    // under the same options as later, else the code cache is refused
    await run(process.execPath, [...options, '--experimental-sea-config', config])
    await copyFile(await strippedNode(), injected)
    await run(process.execPath, [
      require.resolve('postject/dist/cli.js'),
      injected,
      'NODE_SEA_BLOB',
      blob,
      '--sentinel-fuse',
      SEA_FUSE,
    ])
    // a file written in one go lies in the page cache in small pieces, of which a process maps only those that it uses
    await copyFile(injected, partial)
    await chmod(partial, 0o755)
    await rename(partial, binary)
    await writeFile(stamp, digest)
  } finally {
    for (const path of [script, blob, injected, partial, config]) await rm(path, { force: true })
  }
}

/** Node without debug symbols (17 MiB less); must be stripped before anything is injected. */
async function strippedNode(): Promise<string> {
  const path = join(BUILD, `node-${process.version}`)
  if (existsSync(path)) return path
  requireTools({ strip: 'binutils' })
  await copyFile(process.execPath, `${path}.partial`)
  execFileSync('strip', ['--strip-debug', `${path}.partial`])
  await rename(`${path}.partial`, path)
  return path
}

const HELP = `Usage: npm run build

Builds mortar, mortar-broker, mortar-agent and the console page into build/, each program one self-contained file, and
prints their paths as JSON. What is up to date is not built again.

Example:
  npm run build && build/mortar --version`

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { help: { type: 'boolean', short: 'h' } } })
  if (values.help) return console.log(HELP)
  console.log(JSON.stringify(await buildBinaries(line => console.error(line)), null, 2))
}

if (import.meta.main) await asProgram('npm run build', main)
