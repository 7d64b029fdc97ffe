/** Bundling by esbuild: one script per program, and the console page with a list of its files' hashes. */
import { createHash } from 'node:crypto'
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { build, type Plugin } from 'esbuild'

/** zod speaks 50 languages; ours are enough with one, which saves a quarter of the bundle and MiBs of memory. */
const englishOnly: Plugin = {
  name: 'english-only',
  setup({ onLoad }) {
    onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js'",
    }))
  },
}

/** The program as one CommonJS script, which is what a single-executable application takes. */
export async function bundle(entry: string, version: string): Promise<string> {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minify: true,
    keepNames: true,
    write: false,
    logLevel: 'error',
    define: { MORTAR_VERSION: JSON.stringify(version), 'import.meta.main': 'true' },
    plugins: [englishOnly],
    // optional native parts of ssh2 and ws, which do without
    external: ['cpu-features', '*.node', 'bufferutil', 'utf-8-validate'],
  })
  const [output] = result.outputFiles
  if (!output) throw new Error(`${entry} gave no output`)
  return output.text
}

/** The page and its SHA-256 list, `hashes.txt`, in the format of sha256sum. */
export async function bundlePage(source: string, target: string): Promise<void> {
  await rm(target, { recursive: true, force: true })
  await mkdir(target, { recursive: true })
  await build({
    entryPoints: { main: join(source, 'main.ts'), style: join(source, 'style.css') },
    bundle: true,
    platform: 'browser',
    format: 'esm',
    target: 'es2023',
    minify: true,
    outdir: target,
    plugins: [englishOnly],
    logLevel: 'error',
  })
  await copyFile(join(source, 'index.html'), join(target, 'index.html'))
  const lines: string[] = []
  for (const name of (await readdir(target)).sort()) {
    const digest = createHash('sha256')
      .update(await readFile(join(target, name)))
      .digest('hex')
    lines.push(`${digest}  ${name}\n`)
  }
  await writeFile(join(target, 'hashes.txt'), lines.join(''))
}
