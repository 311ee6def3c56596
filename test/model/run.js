// @ts-check
// `npm run model -- [--runs n] [--site name] [--seed n] [--path p]` runs the model for as long as you like.
// `npm run model -- --mutants [--only name]` shows that it finds planted bugs, in a copy of the package.
import { spawnSync } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { mutants } from './mutants.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '2000' },
    site: { type: 'string' },
    seed: { type: 'string' },
    path: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
})

/** @param {string} folder @param {Record<string, string | undefined>} env @param {boolean} isShown */
function runModel(folder, env, isShown) {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const args = [vitest, 'run', '--project', 'unit', '--typecheck=false', 'test/model']
  const given = Object.entries(env).filter(([, value]) => value !== undefined)
  return spawnSync(process.execPath, args, {
    ...{ cwd: folder, encoding: 'utf8', stdio: isShown ? 'inherit' : 'pipe' },
    env: { ...process.env, ...(isShown ? {} : { NO_COLOR: '1' }), ...Object.fromEntries(given) },
  })
}

async function runMutants() {
  const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-mutants-'))
  let survivors = 0
  try {
    for (const name of [
      'src',
      'test',
      'scripts',
      'package.json',
      'tsconfig.json',
      'vitest.config.ts',
    ]) {
      await cp(join(root, name), join(folder, name), { recursive: true })
    }
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
    for (const [name, { site, file, find, replace }] of Object.entries(mutants)) {
      if (values.only !== undefined && values.only !== name) continue
      const path = join(folder, 'src', file)
      const source = await readFile(path, 'utf8')
      if (!source.includes(find)) throw new Error(`src/${file} no longer has: ${find}`)
      await writeFile(
        path,
        source.replace(find, () => replace),
      )
      const env = { MODEL_SITE: site, MODEL_RUNS: values.runs, MODEL_SEED: values.seed ?? '1' }
      // Without shrinking: it is enough that one run fails.
      const more = { MODEL_SHRINK: 'false', MODEL_PATIENCE: '10000' }
      const { status, stdout, stderr } = runModel(folder, { ...env, ...more }, false)
      await writeFile(path, source)
      const found = /Property failed after (\d+) tests/.exec(stdout + stderr)
      const fault = /Caused by: .*?Error.*?: (.*)/.exec(stdout + stderr)
      if (status === 0 || found === null) survivors += 1
      const how = found ? `run ${found[1]}: ${fault?.[1] ?? ''}` : status ? 'BROKEN' : 'SURVIVED'
      console.log(`${name} (${site}): ${how}`)
    }
  } finally {
    await rm(folder, { recursive: true })
  }
  return survivors === 0 ? 0 : 1
}

if (values.mutants) {
  process.exitCode = await runMutants()
} else {
  const { runs, site, seed, path } = values
  const env = { MODEL_RUNS: runs, MODEL_SITE: site, MODEL_SEED: seed, MODEL_PATH: path }
  process.exitCode = runModel(root, env, true).status ?? 1
}
