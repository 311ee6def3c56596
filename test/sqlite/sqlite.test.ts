/** What the suite for engines cannot know: restarts, limits, and how SQLite fails. */
import { once } from 'node:events'
import { mkdirSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ClientPool } from 'koa-sse-pool'
import { type SqliteLogOptions, sqliteLog, sqliteRuns } from 'koa-sse-pool/sqlite'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type Driver, findDriver, type Statement } from '../../src/sqlite/driver.js'
import { downError } from '../../src/sqlite/errors.js'
import { append, nonce, start } from '../../src/testing/process.js'
import { connect, serveStreams } from '../helpers/server.js'
import { deleteDatabase, driver, isBuiltIn, openDatabase, SqliteFolder } from '../helpers/sqlite.js'

const folder = new SqliteFolder()
afterAll(() => folder.remove())

/** A fresh file, and logs of several processes on it. */
function setUp(options: Partial<SqliteLogOptions> = {}) {
  const path = folder.newFile()
  const newLog = (more: Partial<SqliteLogOptions> = {}) =>
    sqliteLog({ path, driver, ...options, ...more })
  const open = async (more: Partial<SqliteLogOptions> = {}) => {
    const process = start(newLog(more))
    onTestFinished(() => process.log.close())
    await process.opened
    return process
  }
  /** A connection of the app's. */
  const connection = () => {
    const database = openDatabase(path)
    onTestFinished(() => void database.close())
    return database
  }
  return { path, open, newLog, connection }
}

const down = (message: string) => ({
  code: 'ERR_SSE_LOG_DOWN',
  message: expect.stringContaining(message),
})

describe('a file', () => {
  test('that was deleted does not decide where a client continues, which another process may know better', async () => {
    const { open, path } = setUp({ pollMs: 3_600_000 })
    const [writer, reader] = [await open(), await open()]
    await append(writer, 'old')
    await reader.has(['old'])
    deleteDatabase(path)
    // It notices that, and creates the file again.
    const id = await vi.waitFor(() => append(writer, 'new'))
    await expect(reader.log.barrier()).rejects.toMatchObject(down('the file was deleted'))
    await vi.waitFor(async () => expect(await reader.log.barrier()).toBe(id))
    await reader.until('replaced', () => reader.resets.includes('replaced'))
  })

  test('keeps the events over a restart: a page continues where it was, and misses nothing', async () => {
    const { newLog } = setUp()
    const before = new ClientPool({ log: newLog() })
    const first = await serveStreams({ pool: before })
    const ada = await connect(first.origin, '/?id=ada')
    await before.send('ada', 'one')
    await ada.until(({ data }) => data.includes('one'))
    ada.close()
    await before.send('ada', 'two')
    await before.close()
    const after = new ClientPool({ log: newLog() })
    onTestFinished(() => after.close())
    const second = await serveStreams({ pool: after })
    const headers = { 'Last-Event-ID': ada.lastEventId }
    const again = await connect(second.origin, '/?id=ada', { headers })
    await after.send('ada', 'three')
    await again.until(({ data }) => data.includes('three'))
    expect(again.data).toEqual(['two', 'three'])
    expect(again.events.some(({ event }) => event === 'sse.gap')).toBe(false)
  })

  test('that was deleted while it was open loses no send without a word, and is created again', async () => {
    const { path, open } = setUp({ pollMs: 20 })
    const process = await open()
    await append(process, 'old')
    deleteDatabase(path)
    await vi.waitFor(() => append(process, 'new'), { timeout: 10_000 })
    await process.until('replaced', () => process.resets.includes('replaced'))
    await process.has(['new'])
  })

  test('that is deleted and made again while it is being opened loses no send', async () => {
    const { path, open, newLog } = setUp()
    const Real = findDriver(driver as Driver | undefined)
    let isFirst = true
    /** Opens the old file; in the meantime another process has deleted it and made a new one. */
    class Overtaken extends Real {
      constructor(file: string) {
        super(file)
        if (!isFirst) return
        isFirst = false
        deleteDatabase(path)
        openDatabase(path).close()
      }
    }
    const late = start(newLog({ driver: Overtaken }))
    onTestFinished(() => late.log.close())
    await late.opened
    await append(late, 'one')
    const other = await open()
    await append(other, 'two')
    await other.has(['one', 'two'])
    await late.has(['one', 'two'])
  })

  test('whose generation was deleted is another log', async () => {
    const { open, connection } = setUp()
    const process = await open()
    await append(process, 'old')
    connection().exec('DELETE FROM sse_events; DELETE FROM sse_events_state')
    await process.until('replaced', () => process.resets.includes('replaced'))
    await append(process, 'new')
    await process.has(['new'])
  })

  test('holds the logs of several pools, each in a table of its own', async () => {
    const { open } = setUp()
    const [one, two] = [await open({ table: 'one' }), await open({ table: 'two' })]
    await append(one, 'of one')
    await append(two, 'of two')
    await one.has(['of one'])
    await two.has(['of two'])
  })

  test('is not open any more once the log is closed', async () => {
    const { path, newLog } = setUp()
    const log = newLog()
    const process = start(log)
    await process.opened
    await append(process, 'one')
    const openFiles = () =>
      readdirSync('/proc/self/fd').flatMap(fd => {
        try {
          return [readlinkSync(`/proc/self/fd/${fd}`)].filter(file => file.startsWith(path))
        } catch {
          // The descriptor of the list itself.
          return []
        }
      })
    expect(openFiles()).toContain(path)
    await log.close()
    await log.close()
    expect(openFiles()).toEqual([])
    await expect(log.append({ nonce: nonce(), target: '*', frame: '' })).rejects.toMatchObject(
      down('the log is closed'),
    )
  })
})

describe('limits', () => {
  test.each<Partial<SqliteLogOptions>>([{ maxEntries: 10 }, { maxBytes: 1000 }, { maxAge: 1 }])(
    'no more is kept than %o',
    async limit => {
      const { open, connection } = setUp(limit)
      const process = await open()
      const db = connection()
      for (let round = 0; round < 4; round++) {
        await Promise.all(Array.from({ length: 1000 }, () => append(process, 'an entry')))
      }
      await vi.waitFor(
        () => {
          const row = db.prepare('SELECT count(*) AS n FROM sse_events').get()
          expect(row?.n).toBeLessThan(1100)
        },
        { timeout: 10_000 },
      )
      await append(process, 'last')
      await process.until('arrived', () => process.entries.at(-1)?.frame === 'last')
    },
  )

  test('a process starts with the newest entries that fit into windowBytes', async () => {
    const { open } = setUp()
    const writer = await open()
    for (const letter of ['a', 'b', 'c']) await append(writer, letter.repeat(1000))
    const reader = await open({ windowBytes: 2000 })
    await reader.has(['b'.repeat(1000), 'c'.repeat(1000)])
    const least = await open({ windowBytes: 1 })
    await least.has(['c'.repeat(1000)])
  })

  test('the -wal file becomes short again after somebody has read it for long', async () => {
    const { path, open, connection } = setUp({ maxEntries: 10 })
    const process = await open()
    const size = () => statSync(`${path}-wal`).size
    const write = async () => {
      for (let count = 0; count < 20; count++) await append(process, 'x'.repeat(1_000_000))
    }
    const db = connection()
    db.exec('BEGIN')
    db.prepare('SELECT count(*) FROM sse_events').get()
    await write()
    expect(size()).toBeGreaterThan(19_000_000)
    db.exec('COMMIT')
    await write()
    await vi.waitFor(() => expect(size()).toBeLessThan(17_000_000), { timeout: 10_000 })
  })
})

describe('a failure', () => {
  test.each([
    ['a folder that is not there', 'none/events.db', 'folder of the option path must exist'],
    ['a file that is no database', 'text.db', 'is no SQLite database; choose another path'],
    ['a folder', 'folder.db', 'folder of the option path must exist'],
  ])('to open %s is reported with the fix, and tried again', async (_, name, fix) => {
    const home = folder.newFile()
    mkdirSync(join(home, 'folder.db'), { recursive: true })
    writeFileSync(join(home, 'text.db'), 'no database at all '.repeat(100))
    const path = join(home, name)
    const pool = new ClientPool({ log: sqliteLog({ path, driver }) })
    onTestFinished(() => pool.close())
    pool.on('error', () => {})
    const [error] = await once(pool, 'error')
    expect(error).toMatchObject(down(fix))
    await expect(pool.broadcast('lost')).rejects.toMatchObject(down(fix))
    rmSync(path, { recursive: true, force: true })
    mkdirSync(join(home, 'none'), { recursive: true })
    await vi.waitFor(() => pool.broadcast('stored'), { timeout: 10_000 })
  })

  test('to find its columns in the table is reported, and nothing is written', async () => {
    const { newLog, connection } = setUp()
    const db = connection()
    db.exec('CREATE TABLE sse_events (name TEXT)')
    const pool = new ClientPool({ log: newLog() })
    onTestFinished(() => pool.close())
    pool.on('error', () => {})
    const [error] = await once(pool, 'error')
    expect(error).toMatchObject(down('the option table is not one of this log'))
    await expect(pool.broadcast('lost')).rejects.toMatchObject(down('choose another name'))
    expect(db.prepare('SELECT count(*) AS n FROM sse_events').get()?.n).toBe(0)
  })

  test('of a full disk rejects the append, which was not stored', async () => {
    const { open, connection } = setUp()
    const process = await open()
    await append(process, 'before')
    const db = connection()
    const { seq } = db.prepare('SELECT seq FROM sqlite_sequence').get() ?? {}
    // Without another position SQLite fails as on a full disk.
    db.exec(`UPDATE sqlite_sequence SET seq = ${2n ** 63n - 1n}`)
    await expect(append(process, 'lost')).rejects.toMatchObject(down('the disk is full'))
    db.exec(`UPDATE sqlite_sequence SET seq = ${seq}`)
    await append(process, 'after')
    await process.has(['before', 'after'])
  })

  /** A driver whose COMMIT fails once, before or after it is carried out. */
  function failingAt(when: 'before' | 'after', error: Error): Driver {
    let hasFailed = false
    return class extends findDriver(driver as Driver | undefined) {
      override prepare(sql: string): Statement {
        const statement = super.prepare(sql)
        if (sql !== 'COMMIT') return statement
        return Object.assign(Object.create(statement), {
          run: () => {
            const isLast = hasFailed
            if (!isLast && when === 'before') hasFailed = true
            else statement.run()
            if (isLast || hasFailed === (when === 'after')) return { changes: 0 }
            hasFailed = true
            throw error
          },
        })
      }
    }
  }
  const sqliteError = (errcode: number) => Object.assign(new Error('failed'), { errcode })

  test('of the commit is uncertain, and the same entry can be stored again once', async () => {
    const { open, newLog } = setUp()
    const reader = await open()
    for (const when of ['before', 'after'] as const) {
      const writer = newLog({ driver: failingAt(when, sqliteError(10)) })
      onTestFinished(() => writer.close())
      await writer.open({ reset() {}, append() {}, state() {}, error() {} })
      const entry = { nonce: nonce(), target: '*', frame: when }
      await expect(writer.append(entry)).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
      await writer.append(entry)
    }
    await reader.has(['before', 'after'])
  })

  test('of a commit for which the disk had no space is certain', async () => {
    const { open, newLog } = setUp()
    const reader = await open()
    const writer = newLog({ driver: failingAt('before', sqliteError(13)) })
    onTestFinished(() => writer.close())
    await writer.open({ reset() {}, append() {}, state() {}, error() {} })
    const lost = writer.append({ nonce: nonce(), target: '*', frame: 'lost' })
    await expect(lost).rejects.toMatchObject(down('the disk is full'))
    await append(reader, 'last')
    await reader.has(['last'])
  })

  test.each([
    ['node:sqlite', { errcode: 1032 }],
    ['better-sqlite3', { code: 'SQLITE_READONLY_DBMOVED' }],
  ])('is recognized by its primary code with %s', (_, properties) => {
    const error = Object.assign(new Error('attempt to write a readonly database'), properties)
    expect(downError('not stored', error).message).toBe(
      'sqliteLog(): not stored: attempt to write a readonly database (let this process write to the file of the option path, and to its folder)',
    )
  })
})

test('options that are missing, wrong or of other libraries are named, with the fix', () => {
  const log = (options: unknown) => () => sqliteLog(options as SqliteLogOptions)
  expect(log({})).toThrow(/option "path" must be the path of a file.*got undefined/)
  expect(log({ path: ':memory:' })).toThrow('option "path" must be the path of a file')
  expect(log('events.db')).toThrow("write sqliteLog({ path: 'events.db' })")
  expect(log({ file: 'events.db' })).toThrow('unknown option "file"; did you mean "path"?')
  expect(log({ path: 'a.db', table: 'a b' })).toThrow('option "table" must be the name of a table')
  expect(log({ path: 'a.db', synchronous: 'off' })).toThrow("must be 'normal' or 'full'")
  expect(log({ path: 'a.db', driver: 'better-sqlite3' })).toThrow(
    'option "driver" must be the class DatabaseSync of node:sqlite',
  )
})

test('a Node without SQLite needs better-sqlite3, and is told so at once', () => {
  const log = () => sqliteLog({ path: folder.newFile() })
  const runs = () => sqliteRuns({ path: folder.newFile() })
  if (isBuiltIn) expect(log().engine).toBe('SQLite')
  else {
    expect(log).toThrow('use Node 22.13 or newer, or run: npm install better-sqlite3@12')
    expect(runs).toThrow('sqliteRuns(): Node')
  }
})
