// @ts-check
// Builds for the examples in half a second what they import: ES modules, without types. Everything else is
// tested and published from the full build, `npm run build`, which replaces this one.
import { cpSync, existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { subpaths } from './subpaths.js'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const DIST = join(ROOT, 'dist')

/** Builds dist/ if it is missing or older than a file in src/. */
export async function buildIfStale() {
  if (!isStale()) return
  console.error('Building koa-sse-pool …')
  // Renamed at the end: a failed build leaves what was there.
  const outdir = join(ROOT, '.example-dist')
  const isClient = (/** @type {{ file: string }} */ { file }) => file === 'client'
  const shared = { absWorkingDir: ROOT, outdir, bundle: true, sourcemap: true }
  const client = { ...shared, tsconfig: 'src/client/tsconfig.json', minify: true, target: 'es2022' }
  try {
    await Promise.all([
      build({
        ...shared,
        entryPoints: entriesOf(subpaths.filter(subpath => !isClient(subpath))),
        format: 'esm',
        platform: 'node',
        target: 'node20',
        splitting: true,
        packages: 'external',
      }),
      build({ ...client, entryPoints: entriesOf(subpaths.filter(isClient)), format: 'esm' }),
      build({
        ...client,
        entryPoints: { 'client.global': 'src/client/global.ts' },
        format: 'iife',
      }),
    ])
    cpSync(join(ROOT, 'src/inspector/inspector-page'), join(outdir, 'inspector-page'), {
      recursive: true,
    })
    rmSync(DIST, { recursive: true, force: true })
    renameSync(outdir, DIST)
  } finally {
    rmSync(outdir, { recursive: true, force: true })
  }
}

function isStale() {
  const built = join(DIST, 'index.js')
  if (!existsSync(built)) return true
  const { mtimeMs } = statSync(built)
  // Folders too: theirs changes when a file is removed.
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  return sources.some(path => statSync(join(ROOT, 'src', path)).mtimeMs > mtimeMs)
}

/** @param {typeof subpaths} list */
function entriesOf(list) {
  return Object.fromEntries(list.map(({ file, source }) => [file, source]))
}
