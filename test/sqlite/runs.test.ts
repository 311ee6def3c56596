/** What the suite for stores of runs cannot know: restarts, other transactions, and what is cleaned up. */
import { type SqliteRunsOptions, sqliteRuns } from 'koa-sse-pool/sqlite'
import { afterAll, expect, onTestFinished, test, vi } from 'vitest'
import {
  begin,
  EVERYTHING,
  entriesOf,
  follow,
  startedWatch,
  statusOf,
  waitForStatus,
} from '../../src/testing/runs.js'
import { deleteDatabase, driver, openDatabase, SqliteFolder } from '../helpers/sqlite.js'

const folder = new SqliteFolder()
afterAll(() => folder.remove())

function setUp() {
  const path = folder.newFile()
  const open = (options: Partial<SqliteRunsOptions> = {}) => {
    const store = sqliteRuns({ path, driver, pollMs: 3_600_000, ...options })
    onTestFinished(() => store.close())
    return store
  }
  const connection = () => {
    const database = openDatabase(path)
    onTestFinished(() => void database.close())
    return database
  }
  return { path, open, connection }
}

test('a run goes on after a restart where it was', async () => {
  const { open } = setUp()
  const before = open()
  await begin(before, 'run', { entries: ['one'] })
  const producer = { id: 'p', epoch: 0, seq: 0 }
  await before.append('run', { entries: ['two'], producer })
  await before.close()
  const after = open()
  const repeated = await after.append('run', { entries: ['two'], producer })
  expect(repeated.outcome).toBe('duplicate')
  await after.append('run', { entries: ['three'], producer: { ...producer, seq: 1 }, ending: '' })
  expect(await follow(after, 'run')).toEqual(['one', 'two', 'three'])
})

test('runs are read while a transaction of the app holds the write lock, and changed after it', async () => {
  const { open, connection } = setUp()
  const store = open()
  await begin(store, 'run', { entries: ['one'], ttl: 600_000 })
  const db = connection()
  db.exec('BEGIN IMMEDIATE')
  const appended = store.append('run', { entries: ['two'] })
  expect(await entriesOf(store, 'run')).toEqual(['one'])
  expect(await statusOf(open(), 'run')).toBe('open')
  db.exec('COMMIT')
  expect((await appended).outcome).toBe('appended')
  expect(await entriesOf(store, 'run')).toEqual(['one', 'two'])
})

test('a store does not say that a run is unknown while it still reads a file that was deleted', async () => {
  const { open, path } = setUp()
  const [writer, reader] = [open(), open()]
  await begin(writer, 'old')
  expect(await statusOf(reader, 'old')).toBe('open')
  deleteDatabase(path)
  // It notices that, and creates the file again.
  await vi.waitFor(() => begin(writer, 'new'))
  await expect(reader.get('new')).rejects.toMatchObject({
    code: 'ERR_SSE_LOG_DOWN',
    message: expect.stringContaining('the file was deleted or replaced'),
  })
  await vi.waitFor(async () => expect(await statusOf(reader, 'new')).toBe('open'))
})

test('a change that waits too long for the write lock rejects, and says why', async () => {
  const { open, connection } = setUp()
  const store = open({ timeout: 50 })
  await begin(store, 'run')
  const db = connection()
  db.exec('BEGIN IMMEDIATE')
  await expect(store.append('run', { entries: ['lost'] })).rejects.toMatchObject({
    code: 'ERR_SSE_LOG_DOWN',
    message: expect.stringMatching(
      /^sqliteRuns\(\): not stored: .*end the transactions of your app/,
    ),
  })
  db.exec('ROLLBACK')
  expect(await entriesOf(store, 'run')).toEqual([])
})

test('watchers who have missed changes are called to read', async () => {
  const { open, connection } = setUp()
  const store = open()
  await begin(store, 'run')
  await store.append('run', { entries: ['one'] })
  const watch = await startedWatch(open(), 'run')
  const db = connection()
  db.exec('BEGIN IMMEDIATE')
  db.exec('INSERT INTO sse_runs_changes (id) VALUES (1), (2)')
  db.exec('DELETE FROM sse_runs_changes')
  db.exec('COMMIT')
  await watch.until('called', () => watch.calls.length > 1)
})

test('what is over is removed from the file, and what a fork needs is kept', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  onTestFinished(() => void vi.useRealTimers())
  const { open, connection } = setUp()
  const store = open()
  const producer = { id: 'p', epoch: 0, seq: 0 }
  await begin(store, 'gone', { ttl: 1 })
  await begin(store, 'remembered', { entries: ['a', 'b'], ttl: 1, remember: 600_000 })
  await begin(store, 'source', { entries: ['c'] })
  await begin(store, 'fork', { fork: { from: 'source', at: 1 }, entries: ['d'] })
  await begin(store, 'open', { entries: ['e'] })
  await store.append('open', { entries: [], producer })
  await store.delete('source')
  await waitForStatus(store, 'remembered', 'expired')
  await waitForStatus(store, 'gone', 'unknown')
  const db = connection()
  const texts = (sql: string) =>
    db
      .prepare(sql)
      .all()
      .map(row => Object.values(row)[0])
  expect(texts('SELECT id FROM sse_runs')).toContain('gone')
  vi.advanceTimersByTime(30_000)
  await vi.waitFor(() => expect(texts('SELECT id FROM sse_runs')).not.toContain('gone'), {
    timeout: 10_000,
  })
  expect(texts('SELECT id FROM sse_runs ORDER BY id')).toEqual([
    'fork',
    'open',
    'remembered',
    'source',
  ])
  expect(texts('SELECT text FROM sse_runs_entries ORDER BY text')).toEqual(['c', 'd', 'e'])
  expect(await entriesOf(store, 'fork')).toEqual(['c', 'd'])
  expect((await store.read('remembered', 0, EVERYTHING))?.run.status).toBe('expired')
  await store.delete('fork')
  vi.advanceTimersByTime(30_000)
  await vi.waitFor(() => expect(texts('SELECT id FROM sse_runs')).not.toContain('source'), {
    timeout: 10_000,
  })
  await store.delete('open')
  expect(texts('SELECT text FROM sse_runs_entries')).toEqual([])
  expect(texts('SELECT id FROM sse_runs_producers')).toEqual([])
})

test('options that are missing, wrong or of other libraries are named, with the fix', () => {
  const wrong = (options: unknown) => () => sqliteRuns(options as SqliteRunsOptions)
  expect(wrong({})).toThrow(/^sqliteRuns\(\): option "path" must be the path of a file/)
  expect(wrong({ path: 'a.db', ttl: 5 })).toThrow('set it where the run begins')
  expect(wrong({ path: 'a.db', maxEntries: 5 })).toThrow('unknown option "maxEntries"')
  expect(wrong('a.db')).toThrow("write sqliteRuns({ path: 'events.db' })")
})
