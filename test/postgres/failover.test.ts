/** A standby is promoted after the primary was killed: what it has, and what clients are told of what it lacks. */
import { ClientPool } from 'koa-sse-pool'
import { type PostgresLogOptions, postgresLog } from 'koa-sse-pool/postgres'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { append, nonce, start } from '../../src/testing/process.js'
import { Link } from '../helpers/link.js'
import { PostgresServer } from '../helpers/postgres.js'
import { connect, serveStreams } from '../helpers/server.js'

/** Positions that PostgreSQL skips after a failover at most: https://www.postgresql.org/docs/current/functions-sequence.html */
const SKIPPED = 32

/** A primary with a standby, each over a link, and logs that reach whichever is the primary. */
async function setUp() {
  const primary = await PostgresServer.start()
  const replication = await Link.to(primary.port)
  const standby = await primary.standby(replication.port)
  const link = await Link.to(primary.port)
  const pool = primary.pool({ port: link.port })
  onTestFinished(async () => {
    link.close()
    replication.close()
    await pool.end()
    await Promise.all([primary.stop(), standby.stop()])
  })
  const logOf = (options: Partial<PostgresLogOptions> = {}) =>
    postgresLog({ pool, table: 'log', timeout: 1000, pollMs: 100, ...options })
  await logOf().createTable()
  const open = async () => {
    const process = start(logOf())
    onTestFinished(() => process.log.close())
    await process.opened
    return process
  }
  const failOver = async () => {
    await primary.crash()
    await standby.promote()
    link.leadTo(standby.port)
  }
  return { primary, standby, replication, logOf, open, failOver }
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => String(from + index))

describe('a failover to a synchronous standby', () => {
  test('loses nothing that was acknowledged, doubles nothing, and no reader notices it', async () => {
    const { primary, standby, open, failOver } = await setUp()
    await primary.setSynchronous(true)
    const [writer, reader] = [await open(), await open()]
    const stored: string[] = []
    const write = async (frame: string) => {
      const entry = { nonce: nonce(), target: '*', frame }
      await vi.waitFor(() => writer.log.append(entry), { timeout: 20_000, interval: 10 })
      stored.push(frame)
    }
    const before = numbers(1, 200).map(write)
    await reader.until('some arrived', () => reader.entries.length > 50)
    const during = numbers(201, 400).map(write)
    await failOver()
    // The copied setting makes it wait for a standby of its own.
    await standby.setSynchronous(false)
    await Promise.all([...before, ...during])
    await write('last')
    for (const process of [writer, reader, await open()]) {
      await process.until('arrived', () => process.entries.at(-1)?.frame === 'last')
      const frames = process.entries.map(({ frame }) => frame)
      expect([...frames].sort()).toEqual([...stored].sort())
      expect(process.resets).toEqual(['boot'])
    }
  })

  test('is no way to see an event that would be lost by it: unreplicated commits are visible to nobody', async () => {
    const { primary, replication, open, failOver } = await setUp()
    await primary.setSynchronous(true)
    const [writer, reader] = [await open(), await open()]
    await append(writer, 'kept')
    await reader.has(['kept'])
    replication.goAway()
    const lost = append(writer, 'unreplicated')
    await expect(lost).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    await failOver()
    await reader.until('down and up', () => reader.isUp)
    await reader.has(['kept'])
    expect(reader.resets).toEqual(['boot'])
  })
})

describe('a failover to an asynchronous standby that lacks the last commits', () => {
  // After fewer the standby skips their positions; after more it assigns some of them again.
  test.each([5, 2 * SKIPPED])(
    'tells the clients of a process that had read %d lost events of a gap, and so one that comes back later',
    async count => {
      const { primary, replication, logOf, open, failOver } = await setUp()
      const pool = new ClientPool({ log: logOf() })
      pool.on('error', () => {})
      onTestFinished(() => pool.close())
      await vi.waitFor(() => expect(pool.isReady).toBe(true), { timeout: 10_000 })
      const { origin } = await serveStreams({ pool })
      const [ada, bob] = [await connect(origin, '/?id=ada'), await connect(origin, '/?id=bob')]
      await pool.broadcast('kept')
      for (const client of [ada, bob]) await client.until(({ data }) => data.includes('kept'))
      await primary.replicated()
      replication.goAway()
      for (const number of numbers(1, count)) await pool.send('ada', number)
      await ada.until(({ data }) => data.includes(String(count)))
      const lastOfAda = ada.lastEventId

      await failOver()
      const writer = await open()
      const after = numbers(1, 2 * count).map(number => `after ${number}`)
      for (const data of after) await vi.waitFor(() => pool.broadcast(data), { timeout: 10_000 })
      for (const client of [ada, bob]) {
        await client.until(({ data }) => data.includes(after.at(-1) as string))
      }
      for (const [client, before] of [
        [ada, ['kept', ...numbers(1, count)]],
        [bob, ['kept']],
      ] as const) {
        const received = client.events
          .filter(({ event }) => event !== 'sse.cursor')
          .map(({ event, data }) => `${event ?? 'message'} ${data}`)
        const gap = received.findIndex(text => text.startsWith('sse.gap'))
        expect(received[gap]).toBe('sse.gap {"reason":"replaced"}')
        expect(received.slice(0, gap)).toEqual(before.map(data => `message ${data}`))
        // After the gap nothing is missing.
        const rest = received.slice(gap + 1)
        expect(rest).toEqual(after.slice(-rest.length).map(data => `message ${data}`))
      }
      // The writer reads for itself, and may be behind the clients.
      await vi.waitFor(
        () => {
          const events = writer.entries.filter(({ target }) => /^[*@]/.test(target))
          expect(events).toHaveLength(1 + after.length)
        },
        { timeout: 10_000 },
      )

      // She comes back with the id of an event that no longer exists, to a process that never had it.
      const late = new ClientPool({ log: logOf() })
      onTestFinished(() => late.close())
      await vi.waitFor(() => expect(late.isReady).toBe(true), { timeout: 10_000 })
      const elsewhere = await serveStreams({ pool: late })
      const headers = { 'Last-Event-ID': lastOfAda }
      const again = await connect(elsewhere.origin, '/?id=ada', { headers })
      await again.event('sse.gap')
    },
  )
})
