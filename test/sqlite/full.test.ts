/**
 * A full disk, made by SQLite's own limit of pages (`PRAGMA max_page_count`), which needs no root: SQLite fails with
 * SQLITE_FULL where it would need another page. The chaos run has disks on which the system refuses the write.
 */
import { once } from 'node:events'
import type { SqliteDatabase } from 'koa-sse-pool/sqlite'
import { sqliteLog } from 'koa-sse-pool/sqlite'
import { afterAll, expect, test, vi } from 'vitest'
import { type Driver, findDriver } from '../../src/sqlite/driver.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'
import { driver, openDatabase, SqliteFolder } from '../helpers/sqlite.js'

const folder = new SqliteFolder()
afterAll(() => folder.remove())

/** More than a page of SQLite, so that each event needs another one. */
const PADDING = '.'.repeat(5000)

/** A driver whose connections can be given a disk without space. */
function limited() {
  const opened = new Set<SqliteDatabase>()
  const Base = findDriver(driver as Driver | undefined)
  const limit = (pages: number) => {
    for (const database of opened) database.exec(`PRAGMA max_page_count = ${pages}`)
  }
  return {
    Limited: class extends Base {
      constructor(path: string) {
        super(path)
        opened.add(this)
      }
      override close() {
        opened.delete(this)
        super.close()
      }
    },
    // SQLite takes the number of pages that there are, if the limit is lower.
    fill: () => limit(1),
    free: () => limit(0xffff_fffe),
  }
}

test('a full disk rejects sends, is reported, stores no part of a batch, stops no reader, and is over when there is space', async () => {
  const { Limited, fill, free } = limited()
  const path = folder.newFile()
  const pool = testPool({ log: sqliteLog({ path, driver: Limited }) })
  await vi.waitFor(() => expect(pool.isReady).toBe(true))
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  const stored: string[] = []
  const send = async (name: string) => {
    await pool.broadcast(`${name} ${PADDING}`)
    stored.push(name)
  }
  const names = ({ data }: typeof client) => data.map(text => text.split(' ')[0])

  await send('before')
  fill()
  const reported = once(pool, 'error')
  const down = { code: 'ERR_SSE_LOG_DOWN', message: expect.stringContaining('the disk is full') }
  const filling = Array.from({ length: 20 }, (_, index) => `one-by-one-${index}`)
  const outcomes: unknown[] = []
  for (const name of filling) outcomes.push(await send(name).catch(error => error))
  expect(outcomes.at(-1)).toMatchObject(down)
  expect((await reported)[0]).toMatchObject(down)
  const batch = await Promise.allSettled(
    Array.from({ length: 10 }, (_, index) => send(`batch-${index}`)),
  )
  for (const outcome of batch) expect(outcome).toMatchObject({ reason: down })

  // It can still be read: by a client that comes back, and by one that is new.
  const [first] = client.messages
  const headers = { 'Last-Event-ID': first?.id }
  const returned = await connect(origin, '/?id=bob', { headers })
  await returned.event('sse.cursor')
  expect(pool.isReady).toBe(true)

  free()
  await send('after')
  await client.until(client => names(client).includes('after'))
  expect(names(client)).toEqual(stored)
  expect(stored).toEqual(['before', ...stored.slice(1, -1), 'after'])
  await returned.until(client => names(client).includes('after'))
  expect(names(returned)).toEqual(stored.slice(1))
  const rows = openDatabase(path).prepare(`SELECT count(*) AS n FROM sse_events WHERE target = '*'`)
  expect(rows.get()?.n).toBe(stored.length)
})

test('a full disk fails the transaction of the app with its event, and neither is stored', async () => {
  const { Limited, fill, free } = limited()
  const path = folder.newFile()
  const pool = testPool({ log: sqliteLog({ path, driver: Limited }) })
  pool.on('error', () => {})
  await vi.waitFor(() => expect(pool.isReady).toBe(true))
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  const app = new Limited(path)
  app.exec('CREATE TABLE orders (product TEXT)')
  fill()
  app.exec('BEGIN IMMEDIATE')
  app.exec(`INSERT INTO orders VALUES ('tea')`)
  const big = PADDING.repeat(20)
  await expect(pool.broadcast(big, { transaction: app })).rejects.toMatchObject({
    code: 'ERR_SSE_LOG_DOWN',
    message: expect.stringContaining('the transaction was rolled back'),
  })
  expect(() => app.exec('COMMIT')).toThrow()
  expect(app.prepare('SELECT count(*) AS n FROM orders').get()?.n).toBe(0)
  free()
  await pool.broadcast('after')
  await client.until(({ data }) => data.includes('after'))
  expect(client.data).toEqual(['after'])
  app.close()
})
