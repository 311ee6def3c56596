// @ts-check
// Installs what an example needs and no more, from a clone without node_modules. `npm ci` would also install
// the databases, browser drivers and tools of the tests, hundreds of packages. Imports Node's own modules only.
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { examples } from './examples.js'
import { subsetOf } from './lock-subset.js'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const MODULES = join(ROOT, 'node_modules')
/** The name that npm writes into an installation from here, by which it can be told from `npm ci`. */
const NAME = 'koa-sse-pool-examples'
/** What example-build.js builds the package with. */
const BUILD = ['esbuild', 'eventsource-parser']

/**
 * Installs these packages into node_modules unless they are there, in the versions of package-lock.json,
 * with which the examples are tested. Throws if npm fails, and if they are missing in a node_modules that
 * `npm ci` or `npm install` has made: only those may change it.
 *
 * @param {readonly string[]} packages of devDependencies
 * @param {string} [note] what to expect
 */
export function installMissing(packages, note = 'It takes some seconds and 20 to 40 MB') {
  const missing = [...packages, ...BUILD].filter(name => !isInstalled(name))
  if (missing.length === 0) return
  if (existsSync(MODULES) && installedName() !== NAME) {
    throw new Error(`node_modules does not have ${missing.join(', ')}. Run npm ci, then try again`)
  }
  // What other examples have installed stays, so that none takes away what another one needs.
  const kept = Object.values(examples).flatMap(({ packages }) => packages.filter(isInstalled))
  const { manifest, lock } = subsetOf(readJson(join(ROOT, 'package-lock.json')), NAME, [
    ...new Set([...packages, ...BUILD, ...kept]),
  ])
  console.error(`Installing what the example needs into node_modules. ${note} …`)
  install({ 'package.json': manifest, 'package-lock.json': lock })
}

/** @param {Record<string, unknown>} files */
function install(files) {
  // Beside node_modules and renamed at the end, so that an interrupted installation is not mistaken for one.
  const folder = join(ROOT, '.example-install')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  try {
    copyFileSync(join(ROOT, '.npmrc'), join(folder, '.npmrc'))
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(folder, name), JSON.stringify(content))
    }
    // None of these packages needs its install script, and npm warns of those that run.
    npm(['ci', '--ignore-scripts'], folder)
    rmSync(MODULES, { recursive: true, force: true })
    renameSync(join(folder, 'node_modules'), MODULES)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** @param {string[]} args @param {string} cwd */
function npm(args, cwd) {
  // The npm that runs this script; on Windows, `npm` is no program that can be spawned.
  const { npm_execpath: script } = process.env
  const [file, before] = script ? [process.execPath, [script]] : ['npm', []]
  // npm shows its progress on stderr. Its stdout would mix with the example's address.
  const { status, error } = spawnSync(file, [...before, ...args], {
    cwd,
    stdio: ['ignore', 2, 2],
  })
  if (status === 0) return
  throw new Error(`npm ${args.join(' ')} failed${error ? `: ${error.message}` : ''}; see above`)
}

/** @param {string} name */
function isInstalled(name) {
  return existsSync(join(MODULES, name, 'package.json'))
}

/** Whose installation node_modules is: the name in the manifest that npm installed from. */
function installedName() {
  const file = join(MODULES, '.package-lock.json')
  return existsSync(file) ? readJson(file).name : undefined
}

/** @param {string} file */
function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'))
}
