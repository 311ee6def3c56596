// @ts-check
// `npm run chaos -- [--engine redis|nats|postgres|sqlite] [--minutes n] [--seed n] [--clients n] [--processes n]
// [--faults a,b] [--mutant name]`: builds the driver, which is TypeScript, and runs it.
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'

const main = new URL('main.ts', import.meta.url)
const cache = fileURLToPath(new URL('../../node_modules/.cache/koa-sse-pool', import.meta.url))
await mkdir(cache, { recursive: true })
const outDir = await mkdtemp(join(cache, 'chaos-'))
try {
  await build({
    entry: { main: fileURLToPath(main) },
    ...{ outDir, format: 'esm', target: 'node20', config: false, silent: true },
    outExtension: () => ({ js: '.mjs' }),
    skipNodeModulesBundle: true,
    // Files next to the source must still be found.
    esbuildOptions(options) {
      options.define = { ...options.define, 'import.meta.url': JSON.stringify(main.href) }
    },
  })
  const args = [join(outDir, 'main.mjs'), ...process.argv.slice(2)]
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' })
  process.exitCode = status ?? 1
} finally {
  await rm(outDir, { recursive: true })
}
