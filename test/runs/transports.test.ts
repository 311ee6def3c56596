/** A run over every transport: with back-pressure, removal, drain, and a pool whose log is out of reach. */
import http from 'node:http'
import http2 from 'node:http2'
import Koa from 'koa'
import { type Run, type RunAppendable, Runs } from 'koa-sse-pool/runs'
import { describe, expect, test } from 'vitest'
import { deferred, nextOpen } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { connect2, session2 } from '../helpers/http2.js'
import { connect, listen, type TestClient, testPool } from '../helpers/server.js'

const transports = {
  'HTTP/1.1': { lean: false, isHttp2: false },
  'HTTP/1.1, lean': { lean: true, isHttp2: false },
  'HTTP/2': { lean: false, isHttp2: true },
}

async function serve({ lean, isHttp2 }: (typeof transports)['HTTP/2'], log?: FakeLog) {
  const pool = testPool({ lean, pingInterval: 1000, ...(log && { log }) })
  const runs = new Runs({ pool })
  const app = new Koa()
  app.use(runs.stream({ id: () => 'one', identify: () => ({ id: 'ada' }) }))
  const server = isHttp2 ? http2.createServer(app.callback()) : http.createServer(app.callback())
  const { origin } = await listen(server)
  const open = async (lastEventId = ''): Promise<TestClient> => {
    const headers = lastEventId === '' ? {} : { 'Last-Event-ID': lastEventId }
    if (!isHttp2) return connect(origin, '/', { headers })
    return (await connect2(session2(origin), '/', headers)).client
  }
  const begun = deferred<Run<RunAppendable>>()
  const end = deferred()
  await runs.start('one', async run => {
    begun.resolve(run)
    await end.promise
  })
  return { pool, runs, open, run: await begun.promise, end: end.resolve }
}

const numbers = (client: TestClient) =>
  client.data.slice(0, -1).map(data => Number.parseInt(data, 10))

describe.each(Object.entries(transports))('over %s', (_, transport) => {
  test('a slow reader gets everything, in order, and costs no memory', {
    timeout: 60_000,
  }, async () => {
    const { pool, open, run, end } = await serve(transport)
    const opened = nextOpen(pool)
    const client = await open()
    const stream = await opened
    client.response.pause()
    for (let i = 0; i < 3000; i++) await run.append(`${i} ${'x'.repeat(3000)}`)
    await run.flush()
    expect(stream.bufferedBytes).toBeLessThan(2 * 1024 * 1024)
    end()
    client.response.resume()
    await client.until(({ events }) => events.at(-1)?.event === 'close')
    expect(numbers(client)).toEqual(Array.from({ length: 3000 }, (_, i) => i))
  })

  test('a reader that is cut off resumes where it was', async () => {
    const { open, run, end } = await serve(transport)
    for (let i = 0; i < 100; i++) await run.append(`${i}`)
    const client = await open()
    await client.until(({ data }) => data.length === 100)
    client.close()
    const { id } = client.messages[41] ?? {}
    const resumed = await open(id)
    await run.append('100')
    end()
    await resumed.until(({ events }) => events.at(-1)?.event === 'close')
    expect(numbers(resumed)).toEqual(Array.from({ length: 59 }, (_, i) => i + 42))
  })

  test('removal and drain end it', async () => {
    const { pool, open, run } = await serve(transport)
    await run.append('a')
    const client = await open()
    await client.until(({ data }) => data.length === 1)
    await pool.remove('ada')
    expect((await client.event('close')).id).toBe('sse.end')
    const other = await open()
    await other.until(({ data }) => data.length === 1)
    await pool.close()
    expect(await other.ended).toBe(true)
    expect(other.messages.map(({ event }) => event)).not.toContain('close')
  })

  test('it does not wait for the log of its pool', async () => {
    const log = new FakeLog()
    log.boots = false
    const { open, run, end } = await serve(transport, log)
    await run.append('a')
    const client = await open()
    await client.until(({ data }) => data.length === 1)
    end()
    await client.event('close')
    expect(client.events.map(({ event }) => event)).not.toContain('sse.gap')
    log.boot()
  })
})
