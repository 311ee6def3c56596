/** Builds the server process for plain Node, unchanged or with a mutant in it. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Options } from 'tsup'
import { mutants } from './mutants.js'

/** Below node_modules, so that packages are found from here. */
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/koa-sse-pool', import.meta.url))
const SOURCE = fileURLToPath(new URL('../../src', import.meta.url))

export interface Program {
  readonly file: string
  remove(): Promise<void>
}

export async function buildServer(mutant?: string): Promise<Program> {
  await mkdir(CACHE, { recursive: true })
  const outDir = await mkdtemp(join(CACHE, 'chaos-'))
  await build({
    entry: { server: fileURLToPath(new URL('server.ts', import.meta.url)) },
    ...{ outDir, format: 'esm', target: 'node20', config: false, silent: true },
    outExtension: () => ({ js: '.mjs' }),
    skipNodeModulesBundle: true,
    esbuildPlugins: mutant === undefined ? [] : [put(mutant)],
  })
  return {
    file: join(outDir, 'server.mjs'),
    remove: () => rm(outDir, { recursive: true }),
  }
}

function put(name: string): NonNullable<Options['esbuildPlugins']>[number] {
  const mutant = mutants[name]
  if (mutant === undefined) {
    const known = Object.keys(mutants).join(', ')
    throw new TypeError(`--mutant: there is no "${name}"; known are ${known}`)
  }
  const { file, find, replace } = mutant
  return {
    name,
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (path !== join(SOURCE, file)) return undefined
        const source = await readFile(path, 'utf8')
        if (!source.includes(find)) throw new Error(`src/${file} no longer has: ${find}`)
        return { contents: source.replace(find, replace), loader: 'ts' }
      })
    },
  }
}
