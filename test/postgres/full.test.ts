/**
 * A disk of PostgreSQL that is full, for the tables alone and for everything. The disk is a limit of the size of its
 * files (test/helpers/full.ts): the writes of the real server fail in the system.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { SseError } from 'koa-sse-pool'
import { postgresLog } from 'koa-sse-pool/postgres'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { PostgresServer } from '../helpers/postgres.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const MIB = 1024 * 1024

/** Less than `maxEventBytes`, and nothing that PostgreSQL could compress. */
const padding = () => randomBytes(MIB / 2).toString('base64')

let server: PostgresServer
let number = 0
beforeAll(async () => {
  server = await PostgresServer.start()
})
afterAll(() => server.stop())

async function setUp() {
  const table = `full_${++number}`
  const db = server.pool()
  onTestFinished(() => db.end())
  const log = postgresLog({ pool: db, table, timeout: 5000, pollMs: 200 })
  await log.createTable()
  const pool = testPool({ log })
  await vi.waitFor(() => expect(pool.isReady).toBe(true), { timeout: 10_000 })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  const names = ({ data }: typeof client) => data.map(text => text.split(' ')[0])
  const stored: string[] = []
  /** Resolves to the error, if there is one. */
  const send = async (name: string, text = '') => {
    try {
      await pool.broadcast(`${name} ${text}`)
      stored.push(name)
      return undefined
    } catch (error) {
      return error as SseError
    }
  }
  const rows = async () => {
    const { rows } = await server.admin.query(
      `SELECT count(*)::int AS n FROM ${table} WHERE target = '*'`,
    )
    return rows[0].n
  }
  return { pool, origin, client, names, stored, send, rows }
}

test('a disk without space for the table rejects sends, is reported, stops no reader, and is over when there is space', async () => {
  const { pool, origin, client, names, stored, send, rows } = await setUp()
  await send('before')
  // Enough for the write-ahead log, whose files have 16 MiB.
  await server.limitFiles(17 * MIB)
  const reported = once(pool, 'error')
  let failed: SseError | undefined
  for (let index = 0; failed === undefined; index++) failed = await send(`${index}`, padding())
  const down = {
    code: 'ERR_SSE_LOG_DOWN',
    message: expect.stringMatching(/not stored: could not (extend|write) .*File too large/),
  }
  expect(failed).toMatchObject(down)
  expect((await reported)[0]).toMatchObject(down)
  const batch = await Promise.all([
    send('a', padding()),
    send('b', padding()),
    send('c', padding()),
  ])
  for (const error of batch) expect(error).toMatchObject(down)
  expect(await rows()).toBe(stored.length)

  // It can still be read.
  expect(pool.isReady).toBe(true)
  const headers = { 'Last-Event-ID': client.messages[0]?.id }
  const returned = await connect(origin, '/?id=bob', { headers })
  await returned.until(client => client.messages.length === stored.length - 1)

  await server.limitFiles('unlimited')
  expect(await send('after', padding())).toBeUndefined()
  for (const each of [client, returned]) {
    await each.until(client => names(client).includes('after'))
  }
  expect(names(client)).toEqual(stored)
  expect(names(returned)).toEqual(stored.slice(1))
  expect(await rows()).toBe(stored.length)
})

test('a disk without space for the write-ahead log ends PostgreSQL: what was acknowledged is there afterwards, and a repeated send is stored once', async () => {
  const { pool, client, names, stored, send, rows } = await setUp()
  pool.on('error', () => {})
  await send('before')
  await server.limitFiles(0)
  const failed = await send('in doubt')
  expect(failed).toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
  await vi.waitFor(() => expect(pool.isReady).toBe(false), { timeout: 10_000 })
  expect(await send('too late')).toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })

  await server.kill()
  await server.run()
  await vi.waitFor(() => failed?.retry?.(), { timeout: 20_000 })
  stored.push('in')
  await vi.waitFor(async () => expect(await send('after')).toBeUndefined(), { timeout: 20_000 })
  await client.until(client => names(client).includes('after'))
  expect(names(client)).toEqual(stored)
  expect(await rows()).toBe(stored.length)
})
