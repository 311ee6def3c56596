/** Events in the transactions of an app, on connections of its own. */
import { setImmediate as turn } from 'node:timers/promises'
import { ClientPool } from 'koa-sse-pool'
import { type SqliteLogOptions, sqliteLog } from 'koa-sse-pool/sqlite'
import { afterAll, expect, onTestFinished, test, vi } from 'vitest'
import { append, nonce, start } from '../../src/testing/process.js'
import { type Database, driver, openDatabase, SqliteFolder } from '../helpers/sqlite.js'

const folder = new SqliteFolder()
afterAll(() => folder.remove())

/** A file with its log as one more process sees it, which hears of commits and does not poll. */
async function setUp(options: Partial<SqliteLogOptions> = {}) {
  const path = folder.newFile()
  const newLog = () => sqliteLog({ path, driver, pollMs: 3_600_000, ...options })
  const reader = start(newLog())
  onTestFinished(() => reader.log.close())
  await reader.opened
  return { path, newLog, reader, db: open(path) }
}

function open(path: string): Database {
  const database = openDatabase(path)
  onTestFinished(() => void database.close())
  return database
}

const entry = (frame: string) => ({ nonce: nonce(), target: '*', frame })
const down = (message: string) => ({
  code: 'ERR_SSE_LOG_DOWN',
  message: expect.stringContaining(message),
})

test('an event is delivered after the commit, in its order, and never after a rollback', async () => {
  const { newLog, reader, db } = await setUp()
  const pool = new ClientPool({ log: newLog() })
  onTestFinished(() => pool.close())
  await vi.waitFor(() => expect(pool.isReady).toBe(true), { timeout: 10_000 })
  db.exec('BEGIN IMMEDIATE')
  const never = pool.broadcast('never', { transaction: db })
  db.exec('ROLLBACK')
  await never
  db.exec('BEGIN IMMEDIATE')
  const ids = [
    pool.send('ada', 'one', { transaction: db }),
    pool.channel('news').send({ data: 'two', key: 'k' }, { transaction: db }),
    pool.remove('bob', 'three', { transaction: db }),
  ]
  for (let count = 0; count < 10; count++) await turn()
  const delivered = () => reader.entries.filter(({ target }) => /^[*@#-]/.test(target))
  expect(delivered()).toEqual([])
  db.exec('COMMIT')
  await reader.until('all arrived', () => delivered().length === 3)
  expect(delivered().map(({ target, key }) => [target, key])).toEqual([
    ['@ada', undefined],
    ['#news', 'k'],
    ['-bob', undefined],
  ])
  expect(delivered().map(({ id }) => id)).toEqual(await Promise.all(ids))
})

test('a transaction may be over before the send is awaited, as a synchronous one is', async () => {
  const { reader, db } = await setUp()
  db.exec('BEGIN')
  const stored = reader.log.append(entry('in time'), db)
  db.exec('COMMIT')
  db.exec('BEGIN')
  void reader.log.append(entry('taken back'), db)
  db.exec('ROLLBACK')
  await stored
  await append(reader, 'last')
  await reader.has(['in time', 'last'])
})

test('an event that was stored before a savepoint stays, and one after it goes with it', async () => {
  const { reader, db } = await setUp()
  db.exec('BEGIN IMMEDIATE')
  await reader.log.append(entry('stays'), db)
  db.exec('SAVEPOINT attempt')
  await reader.log.append(entry('goes'), db)
  db.exec('ROLLBACK TO attempt')
  db.exec('COMMIT')
  await reader.has(['stays'])
})

test('the same nonce in a transaction is stored once, and has one id', async () => {
  const { reader, db } = await setUp()
  const same = entry('once')
  const id = await reader.log.append(same)
  db.exec('BEGIN IMMEDIATE')
  expect(await reader.log.append(same, db)).toBe(id)
  db.exec('COMMIT')
  await append(reader, 'last')
  await reader.has(['once', 'last'])
})

test('a connection may return numbers and rows in another form', async () => {
  const { reader, path } = await setUp()
  const db = open(path)
  // What an app may set for all of its statements.
  const { prepare } = Object.getPrototypeOf(db) as Database
  db.prepare = function (this: Database, sql: string) {
    const statement = prepare.call(this, sql) as unknown as Record<string, (on: boolean) => void>
    for (const name of ['setReadBigInts', 'setReturnArrays', 'safeIntegers']) {
      statement[name]?.(true)
    }
    return statement as never
  }
  db.exec('BEGIN IMMEDIATE')
  const id = await reader.log.append(entry('stored'), db)
  db.exec('COMMIT')
  await reader.has(['stored'])
  expect(reader.entries[0]?.id).toBe(id)
})

test('a transaction that holds the write lock makes other sends wait, and the event loop does not', async () => {
  const { reader, db } = await setUp()
  db.exec('BEGIN IMMEDIATE')
  let isStored = false
  const stored = append(reader, 'later').then(() => {
    isStored = true
  })
  for (let count = 0; count < 200; count++) await turn()
  expect(isStored).toBe(false)
  await reader.log.append(entry('in the transaction'), db)
  db.exec('COMMIT')
  await stored
  await reader.has(['in the transaction', 'later'])
})

test('a process that starts while a transaction is open reads what is there', async () => {
  const { reader, newLog, db } = await setUp()
  await append(reader, 'before')
  db.exec('BEGIN IMMEDIATE')
  await reader.log.append(entry('in the transaction'), db)
  const late = start(newLog())
  onTestFinished(() => late.log.close())
  await late.opened
  await late.has(['before'])
  db.exec('COMMIT')
  await late.has(['before', 'in the transaction'])
})

test('a transaction that is not ended in time rejects other sends, and they say why', async () => {
  const { reader, db } = await setUp({ timeout: 50 })
  db.exec('BEGIN IMMEDIATE')
  const late = append(reader, 'lost')
  await expect(late).rejects.toMatchObject(down('end the transactions of your app sooner'))
  db.exec('ROLLBACK')
  await append(reader, 'stored')
  await reader.has(['stored'])
})

test('a transaction in which an event cannot be stored is rolled back, and its commit fails', async () => {
  const { reader, db } = await setUp()
  db.exec('BEGIN')
  db.prepare('SELECT count(*) FROM sse_events').get()
  await append(reader, 'by another one')
  // What this transaction has read is not the newest state any more, so SQLite lets it write nothing.
  const late = reader.log.append(entry('lost'), db)
  expect(() => db.exec('COMMIT')).toThrow('no transaction is active')
  await expect(late).rejects.toMatchObject(down('begin it by BEGIN IMMEDIATE'))
  await append(reader, 'last')
  await reader.has(['by another one', 'last'])
})

test('what is no transaction on the file of the log is refused', async () => {
  const { reader, db } = await setUp()
  const send = (transaction: unknown) => reader.log.append(entry('lost'), transaction)
  await expect(send(db)).rejects.toThrow('BEGIN IMMEDIATE was run; got one without a transaction')
  const closed = openDatabase(folder.newFile())
  closed.close()
  await expect(send(closed)).rejects.toThrow('got one without a transaction')
  const other = await setUp()
  other.db.exec('BEGIN')
  await expect(send(other.db)).rejects.toThrow('a connection to the file of the log')
  const memory = open(':memory:')
  memory.exec('BEGIN')
  await expect(send(memory)).rejects.toThrow('got one to "memory"')
  for (const value of [true, {}, 'BEGIN', { query() {} }]) {
    await expect(send(value)).rejects.toThrow(/must be a (DatabaseSync|Database) on which BEGIN/)
  }
  const foreign = { exec() {}, prepare() {} }
  await expect(send(foreign)).rejects.toThrow('two copies of SQLite in one process may damage')
  await append(reader, 'last')
  await reader.has(['last'])
})
