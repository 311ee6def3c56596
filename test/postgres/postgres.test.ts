/** What the suite for engines cannot know: order, transactions, and how PostgreSQL fails. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import net, { type AddressInfo } from 'node:net'
import { ClientPool, SseError } from 'koa-sse-pool'
import { createTableSql, type PostgresLogOptions, postgresLog } from 'koa-sse-pool/postgres'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { append, nonce, start } from '../../src/testing/process.js'
import { PostgresServer } from '../helpers/postgres.js'

let server: PostgresServer
let number = 0
beforeAll(async () => {
  server = await PostgresServer.start()
})
afterAll(() => server.stop())

/** A fresh table, and logs of several processes on it. */
async function setUp(options: Partial<PostgresLogOptions> = {}, address: pg.PoolConfig = {}) {
  const table = `test_${++number}`
  const pool = server.pool(address)
  await postgresLog({ pool: server.admin, table }).createTable()
  const logOf = (more: Partial<PostgresLogOptions> = {}) =>
    postgresLog({ pool, table, ...options, ...more })
  const open = async (more: Partial<PostgresLogOptions> = {}) => {
    const process = start(logOf(more))
    onTestFinished(() => process.log.close())
    await process.opened
    return process
  }
  onTestFinished(() => pool.end())
  const query = async (text: string, values?: unknown[]) =>
    (await server.admin.query(text.replace(/\bLOG(?![A-Z])/g, table), values)).rows
  return { table, pool, open, logOf, query }
}

/** A client with an open transaction. */
async function begin(): Promise<pg.PoolClient> {
  const client = await server.admin.connect()
  let isReleased = false
  const { release } = client
  client.release = error => {
    if (!isReleased) release.call(client, error)
    isReleased = true
  }
  onTestFinished(() => client.release(true))
  await client.query('BEGIN')
  return client
}

const entry = (frame: string) => ({ nonce: nonce(), target: '*', frame })
const framesOf = (process: { entries: readonly { frame: string }[] }) =>
  process.entries.map(({ frame }) => frame)

describe('the order of entries', () => {
  test('is lost by the naive way: a reader of a sequence misses what commits late', async () => {
    await server.admin.query('CREATE TABLE naive (position bigserial, frame text)')
    const [first, second] = [await begin(), await begin()]
    await first.query(`INSERT INTO naive (frame) VALUES ('early number, late commit')`)
    await second.query(`INSERT INTO naive (frame) VALUES ('late number, early commit')`)
    await second.query('COMMIT')
    const read = async (after: number) =>
      (await server.admin.query('SELECT * FROM naive WHERE position > $1', [after])).rows
    const [seen] = await read(0)
    expect(seen.frame).toBe('late number, early commit')
    await first.query('COMMIT')
    expect(await read(seen.position)).toEqual([])
  })

  test('is that of commits: a reader gets what commits late', async () => {
    const { open, logOf } = await setUp()
    const reader = await open()
    const [first, second] = [await begin(), await begin()]
    const log = logOf()
    await log.append(entry('early number, late commit'), first)
    await log.append(entry('late number, early commit'), second)
    await second.query('COMMIT')
    await reader.has(['late number, early commit'])
    await first.query('COMMIT')
    await reader.has(['late number, early commit', 'early number, late commit'])
  })

  test('is the same for all, with appends and transactions of several processes at once', async () => {
    const { open } = await setUp()
    const processes = [await open(), await open(), await open()]
    const transact = async (frames: string[]) => {
      const client = await server.admin.connect()
      await client.query('BEGIN')
      for (const frame of frames) await processes[0]?.log.append(entry(frame), client)
      await client.query(Number(frames[0]) % 3 === 0 ? 'ROLLBACK' : 'COMMIT')
      client.release()
    }
    const work: Promise<unknown>[] = []
    for (let index = 0; index < 60; index++) {
      for (const process of processes) work.push(append(process, `plain ${index}`))
      work.push(transact([`${index}`, `${index} again`]))
    }
    await Promise.all(work)
    for (const process of processes) {
      await process.until('all arrived', () => process.entries.length === 60 * 3 + 40 * 2)
      expect(process.entries).toEqual(processes[0]?.entries)
    }
    const frames = framesOf(processes[0] as (typeof processes)[0])
    for (let index = 1; index < 60; index += 3) {
      expect(frames.indexOf(`${index}`)).toBeLessThan(frames.indexOf(`${index} again`))
    }
  })
})

describe('a transaction of the app', () => {
  test('delivers its events after the commit, in their order, and none after a rollback', async () => {
    const { open, logOf } = await setUp()
    const pool = new ClientPool({ log: logOf() })
    onTestFinished(() => pool.close())
    const reader = await open()
    const [kept, dropped] = [await begin(), await begin()]
    expect(await pool.broadcast('never', { transaction: dropped })).toBe('')
    expect(await pool.send('ada', 'one', { transaction: kept })).toBe('')
    await pool.channel('news').send({ data: 'two', key: 'k' }, { transaction: kept })
    await pool.remove('bob', 'three', { transaction: kept })
    await pool.broadcast('meanwhile')
    const delivered = () => reader.entries.filter(({ target }) => /^[*@#-]/.test(target))
    await reader.until('arrived', () => delivered().length === 1)
    await dropped.query('ROLLBACK')
    await kept.query('COMMIT')
    await reader.until('all arrived', () => delivered().length === 4)
    expect(delivered().map(({ target, key }) => [target, key])).toEqual([
      ['*', undefined],
      ['@ada', undefined],
      ['#news', 'k'],
      ['-bob', undefined],
    ])
  })

  test('stalls nobody, however long it is open', async () => {
    const { open, logOf } = await setUp({ timeout: 1000 })
    const process = await open()
    const long = await begin()
    await logOf().append(entry('last'), long)
    for (let index = 0; index < 50; index++) await append(process, `${index}`)
    await process.until('all arrived', () => process.entries.length === 50)
    await long.query('COMMIT')
    await process.until('arrived', () => process.entries.at(-1)?.frame === 'last')
  })

  test('is not waited for by createTable() of a process that starts, nor does anybody wait for that', async () => {
    const { open, logOf } = await setUp({ timeout: 2000 })
    const process = await open()
    const long = await begin()
    await logOf().append(entry('last'), long)
    const starting = logOf()
    await starting.createTable()
    await append(process, 'meanwhile')
    await long.query('COMMIT')
    await process.has(['meanwhile', 'last'])
  })

  test('cannot deadlock with an append that it waits for', async () => {
    const { open } = await setUp({ timeout: 2000 })
    const process = await open()
    const client = await begin()
    await process.log.append(entry('in the transaction'), client)
    // The app sends without the transaction, in the middle of it.
    await append(process, 'at once')
    await process.log.append(entry('in the transaction too'), client)
    await client.query('COMMIT')
    await process.has(['at once', 'in the transaction', 'in the transaction too'])
  })

  test('with many large events reaches all, in several steps', async () => {
    const { open, logOf } = await setUp()
    const reader = await open()
    const client = await begin()
    const log = logOf()
    const frames = Array.from({ length: 2500 }, (_, index) => `${index}`)
    for (const frame of frames) await log.append(entry(frame), client)
    await client.query('COMMIT')
    await reader.has(frames)
  })

  test('that has failed rejects the send, and says what to do', async () => {
    const { logOf } = await setUp()
    const client = await begin()
    await expect(client.query('SELECT 1 / 0')).rejects.toThrow()
    const failed = logOf().append(entry('lost'), client)
    await expect(failed).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining(
        'not stored; roll the transaction back: current transaction',
      ),
    })
  })

  test.each([
    ['a pool', () => server.admin, 'got a pool, whose every query is a transaction of its own'],
    ['true', () => true, 'got true (boolean)'],
    ['an object without query', () => ({}), 'got an object'],
  ])('cannot be %s', async (_, transaction, message) => {
    const { logOf } = await setUp()
    await expect(logOf().append(entry('lost'), transaction())).rejects.toThrow(message)
  })

  test('whose events cannot be moved into the log is reported, and delivered once they can be', async () => {
    const { logOf, open, query } = await setUp({ pollMs: 50 })
    const reader = await open()
    const pool = new ClientPool({ log: logOf() })
    onTestFinished(() => pool.close())
    await vi.waitFor(() => expect(pool.isReady).toBe(true), { timeout: 10_000 })
    await query(`ALTER TABLE LOG ADD CONSTRAINT none CHECK (frame <> 'stuck')`)
    const failed = once(pool, 'error')
    const client = await begin()
    await logOf().append(entry('stuck'), client)
    await client.query('COMMIT')
    const [{ message }] = await failed
    expect(message).toMatch(/events of committed transactions wait in the outbox: new row/)
    await query('ALTER TABLE LOG DROP CONSTRAINT none')
    await reader.until('arrived', () => framesOf(reader).includes('stuck'))
  })

  test('that nobody hears of is found by the next poll, as behind PgBouncer', async () => {
    const { open, logOf, query } = await setUp({ pollMs: 50 })
    const reader = await open()
    await query('DROP TRIGGER ring ON LOG_outbox')
    await logOf().append(entry('silent'), (await begin()) as never)
    const client = await begin()
    await logOf().append(entry('heard by the poll'), client)
    await client.query('COMMIT')
    await reader.has(['heard by the poll'])
  })
})

describe('a server', () => {
  test('that hangs is noticed, rejects what waits, and delivers again when it is back', async () => {
    const { open } = await setUp({ timeout: 300, pollMs: 100 })
    const process = await open()
    await append(process, 'before')
    await server.pause()
    try {
      await expect(append(process, 'in doubt')).rejects.toMatchObject({
        code: 'ERR_SSE_LOG_UNCERTAIN',
      })
      await process.until('down', () => !process.isUp)
      await expect(append(process, 'not stored')).rejects.toMatchObject({
        code: 'ERR_SSE_LOG_DOWN',
      })
      await expect(process.log.barrier()).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    } finally {
      await server.resume()
    }
    await process.until('up', () => process.isUp)
    await vi.waitFor(() => append(process, 'after'), { timeout: 10_000 })
    await process.until('arrived', () => process.entries.at(-1)?.frame === 'after')
    expect(process.resets).toEqual(['boot'])
  })

  test('whose reply is lost has stored the entry once, after a retry', async () => {
    const link = await lossyLink(server.port)
    const { open } = await setUp({}, { port: link.port })
    const process = await open()
    const once = entry('once')
    const lost = link.loseReplyTo('_append"(')
    await expect(process.log.append(once)).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    await lost
    const id = await vi.waitFor(() => process.log.append(once), { timeout: 10_000 })
    await append(process, 'last')
    await process.has(['once', 'last'])
    expect(process.entries[0]?.id).toBe(id)
  })

  test('without the table is reported with the fix, and the log waits for it', async () => {
    const pool = server.pool()
    onTestFinished(() => pool.end())
    const table = `missing_${++number}`
    const log = postgresLog({ pool, table })
    const events = new ClientPool({ log })
    onTestFinished(() => events.close())
    const [error] = await once(events, 'error')
    expect(error).toBeInstanceOf(SseError)
    expect(error.message).toMatch(
      /PostgreSQL is out of reach: relation .* does not exist \(create it by `await log.createTable\(\)`/,
    )
    await Promise.all([
      log.createTable(),
      log.createTable(),
      postgresLog({ pool, table }).createTable(),
    ])
    await vi.waitFor(() => expect(events.isReady).toBe(true), { timeout: 10_000 })
  })

  test('that rewrites the table, as VACUUM FULL does, loses nothing', async () => {
    const { open, query } = await setUp({ timeout: 10_000 })
    const process = await open()
    await append(process, 'before')
    await query('VACUUM FULL LOG')
    await append(process, 'between')
    await query('VACUUM FULL LOG_outbox')
    await append(process, 'after')
    await process.has(['before', 'between', 'after'])
    expect(process.resets).toEqual(['boot'])
  })

  test('with an older state of the table, as after a restore, is reported as replaced', async () => {
    const { open, query } = await setUp({ pollMs: 20 })
    const process = await open()
    await append(process, 'kept')
    await query('CREATE TABLE LOG_backup AS SELECT * FROM LOG')
    await append(process, 'lost')
    await process.has(['kept', 'lost'])
    await query('TRUNCATE LOG; INSERT INTO LOG SELECT * FROM LOG_backup')
    await process.until('replaced', () => process.resets.includes('replaced'))
    await process.has(['kept'])
  })

  test('whose tables are all truncated is reported as replaced', async () => {
    const { open, query } = await setUp({ pollMs: 20 })
    const process = await open()
    await append(process, 'lost')
    await query('TRUNCATE LOG, LOG_outbox, LOG_state RESTART IDENTITY')
    await process.until('replaced', () => process.resets.includes('replaced'))
    await append(process, 'new')
    await process.has(['new'])
  })

  test('refuses one bad entry of a batch and stores the others', async () => {
    const { open, query } = await setUp()
    await query(`ALTER TABLE LOG ADD CHECK (frame <> 'bad')`)
    const process = await open()
    const appended = ['a', 'bad', 'b'].map(frame => append(process, frame))
    const [, bad] = await Promise.allSettled(appended)
    expect(bad).toMatchObject({ reason: { code: 'ERR_SSE_LOG_DOWN' } })
    await process.has(['a', 'b'])
  })
})

describe('old entries', () => {
  const countOf = async (query: (text: string) => Promise<{ n: number }[]>) =>
    (await query('SELECT count(*)::int AS n FROM LOG'))[0]?.n

  test('are deleted beyond maxEntries, and a process reads no more than that', async () => {
    const { open, query } = await setUp({ maxEntries: 100 })
    const process = await open()
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        Array.from({ length: 100 }, (_, index) => append(process, `${round}-${index}`)),
      )
    }
    await vi.waitFor(async () => expect(await countOf(query)).toBe(100))
    const late = await open({ maxEntries: 30 })
    expect(framesOf(late)).toEqual(framesOf(process).slice(-30))
  })

  test('are deleted beyond maxBytes, but never the newest, and windowBytes limits what is read', async () => {
    const { open, query } = await setUp({ maxBytes: 3000, maxEntries: 10 })
    const process = await open()
    for (const frame of 'abcdef') await append(process, frame.repeat(1000))
    await vi.waitFor(async () => expect(await countOf(query)).toBe(3))
    await append(process, 'g'.repeat(10_000))
    await vi.waitFor(async () => expect(await countOf(query)).toBe(1))
    const late = await open({ windowBytes: 1 })
    expect(late.window).toHaveLength(1)
  })

  test('are deleted when they are older than maxAge, and only from the beginning', async () => {
    const { open, query } = await setUp({ maxAge: 60_000 })
    const process = await open()
    for (const frame of 'abcd') await append(process, frame)
    // The clock was set back: b and d look old, c looks new.
    await query(`UPDATE LOG SET at = at - interval '1 hour' WHERE frame IN ('b', 'd')`)
    await query('SELECT LOG_trim(1000, 1000000, 60000)')
    expect(await query('SELECT frame FROM LOG ORDER BY position')).toEqual([
      { frame: 'c' },
      { frame: 'd' },
    ])
    const late = await open()
    expect(framesOf(late)).toEqual(['c', 'd'])
  })
})

describe('postgresLog()', () => {
  const wrong = (options: unknown) => () => postgresLog(options as PostgresLogOptions)

  test.each<[string, () => unknown, string]>([
    [
      'a URL',
      () => 'postgres://x',
      'options must be an object; got a string; write postgresLog({ pool: new Pool(',
    ],
    [
      'a pool',
      () => server.admin,
      'options must be an object; got a pool; write postgresLog({ pool: new Pool(',
    ],
    [
      'no pool',
      () => ({ table: 'a' }),
      `option "pool" must be a pool, made by new Pool() of 'pg'; got undefined`,
    ],
    [
      'a client',
      () => ({ client: {}, table: 'a' }),
      'unknown option "client"; did you mean "pool"?',
    ],
    [
      'a bad table',
      () => ({ pool: server.admin, table: 'a; DROP TABLE b' }),
      'option "table" must be the name of the table',
    ],
    [
      'a schema',
      () => ({ pool: server.admin, schema: 'a' }),
      'unknown option "schema"; write it before the name',
    ],
    [
      'no limit',
      () => ({ pool: server.admin, table: 'a', maxAge: 0 }),
      'option "maxAge" must be milliseconds',
    ],
  ])('refuses %s', (_, options, message) => {
    expect(wrong(options())).toThrow(message)
  })

  test('keeps its tables in a schema, if the name has one', async () => {
    await server.admin.query('CREATE SCHEMA "App"')
    const pool = server.pool()
    onTestFinished(() => pool.end())
    const log = postgresLog({ pool, table: 'App.Events' })
    await log.createTable()
    const process = start(log)
    await append(process, 'there')
    const client = await begin()
    await log.append(entry('too'), client)
    await client.query('COMMIT')
    await process.has(['there', 'too'])
    await log.close()
    expect(createTableSql('App.Events')).toContain('CREATE TABLE IF NOT EXISTS "App"."Events" (')
  })

  test('has the SQL of its tables in the docs', async () => {
    const page = await readFile(new URL('../../docs/postgres.md', import.meta.url), 'utf8')
    expect(page).toContain(`\`\`\`sql\n${createTableSql('app_events')}\`\`\``)
  })

  test('needs no more than the permissions that the docs list', async () => {
    const { table, query } = await setUp()
    await query(`CREATE ROLE LOG_app LOGIN;
      GRANT SELECT, INSERT, DELETE ON LOG, LOG_outbox TO LOG_app;
      GRANT SELECT, INSERT ON LOG_state TO LOG_app`)
    const pool = server.pool({ user: `${table}_app` })
    onTestFinished(() => pool.end())
    const process = start(postgresLog({ pool, table, maxEntries: 1 }))
    onTestFinished(() => process.log.close())
    for (const frame of 'abc') await append(process, frame)
    await vi.waitFor(async () =>
      expect(await query('SELECT frame FROM LOG')).toEqual([{ frame: 'c' }]),
    )
  })
})

/** A port that leads to the server and can lose a reply. */
async function lossyLink(port: number) {
  let lostReply: string | undefined
  let onLost = () => {}
  const sockets = new Set<net.Socket>()
  const link = net.createServer(near => {
    const far = net.connect(port, '127.0.0.1')
    let isLost = false
    near.on('data', data => {
      if (lostReply !== undefined && data.includes(lostReply)) {
        lostReply = undefined
        isLost = true
      }
      far.write(data)
    })
    far.on('data', data => {
      if (!isLost) near.write(data)
      else {
        near.destroy()
        onLost()
      }
    })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => other.destroy())
    }
  })
  link.listen(0, '127.0.0.1')
  await once(link, 'listening')
  onTestFinished(() => {
    link.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    port: (link.address() as AddressInfo).port,
    loseReplyTo(text: string): Promise<void> {
      lostReply = text
      return new Promise(resolve => {
        onLost = resolve
      })
    },
  }
}
