/** The option `compress`: who gets a compressed stream, and that it is the same stream. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import http2 from 'node:http2'
import type { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { EventSource } from 'eventsource'
import Koa from 'koa'
import koaCompress from 'koa-compress'
import { type ClientPool, type RouteOptions, sse } from 'koa-sse-pool'
import { Runs } from 'koa-sse-pool/runs'
import { fetch, EventSource as UndiciEventSource } from 'undici'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { deferred, type Handler, nextOpen, rawGet, serveApp } from '../helpers/app.js'
import { connectGzip, unpacked } from '../helpers/gzip.js'
import { session2 } from '../helpers/http2.js'
import { streamOf, streamsOf } from '../helpers/interior.js'
import { watchAttempts } from '../helpers/lean.js'
import { connect, listen, serveStreams, TestClient, testPool } from '../helpers/server.js'

const order = (count: number) => ({ event: 'order', data: { count, state: 'packed', shelf: 12 } })
const dataOf = (count: number) => JSON.stringify(order(count).data)
const has = (count: number) => (client: TestClient) => client.data.includes(dataOf(count))

/** Serves compressed streams, and returns how to open one. */
type Serve = (
  options: RouteOptions & { pool: ClientPool },
  handler?: Handler,
) => Promise<(path: string, headers?: OutgoingHttpHeaders) => Promise<TestClient>>

const overHttp1: Serve = async (options, handler) => {
  const { origin } = await serveStreams({ compress: true, ...options }, handler)
  return (path, headers) => connectGzip(origin, path, headers)
}

/** Returns clients only once their streams are lean. */
const overLean: Serve = async (options, handler) => {
  const attempt = watchAttempts()
  const open = await overHttp1(options, handler)
  let count = 0
  return async (path, headers) => {
    const client = await open(path, headers)
    count += 1
    expect(await attempt(count)).toHaveProperty('isLean', true)
    return client
  }
}

const overHttp2: Serve = async (options, handler) => {
  const app = new Koa()
  app.silent = true
  app.use(sse({ id: ctx => ctx.query.id, compress: true, ...options }))
  if (handler) app.use(handler as Koa.Middleware)
  const session = session2((await listen(http2.createServer(app.callback()))).origin)
  return async (path, headers = {}) => {
    const stream = session.request({ ':path': path, 'accept-encoding': 'gzip, br', ...headers })
    stream.on('error', () => {})
    const [answer] = await once(stream, 'response')
    const response = Object.defineProperties(stream, {
      statusCode: { value: answer[':status'] },
      headers: { value: answer },
      complete: { get: () => stream.readableEnded && stream.rstCode === 0 },
    })
    return new TestClient(unpacked(response as unknown as IncomingMessage))
  }
}

describe.each<[string, Serve, { lean: boolean }]>([
  ['HTTP/1.1', overHttp1, { lean: false }],
  ['HTTP/1.1, lean', overLean, { lean: true }],
  ['HTTP/2', overHttp2, { lean: false }],
])('over %s', (_, serve, options) => {
  test('ten clients get everything that is sent to them, in order, to a clean end', async () => {
    const pool = testPool(options)
    const open = await serve({ pool, channels: () => ['orders'] }, ctx => {
      ctx.sse.send({ event: 'ready', data: ctx.sse.id })
    })
    const clients: TestClient[] = []
    for (let index = 0; index < 10; index += 1) clients.push(await open(`/?id=${index}`))
    for (let count = 1; count <= 20; count += 1) {
      // Some alone, some together, and some with other events in between.
      void pool.broadcast(order(count))
      if (count % 3 === 0) await clients[9]?.until(has(count))
      if (count % 5 === 0) await pool.send(String(count % 10), { event: 'own', data: count })
      if (count % 7 === 0) streamOf(pool, '3').face.send('direct')
    }
    await pool.channel('orders').send(order(21))
    for (const client of clients) await client.until(has(21))
    for (const { face } of streamsOf(pool)) face.end('bye')

    for (const [index, client] of clients.entries()) {
      expect(await client.ended).toBe(true)
      expect(client.status).toBe(200)
      expect(client.headers).toMatchObject({
        'content-type': 'text/event-stream; charset=utf-8',
        'content-encoding': 'gzip',
        'cache-control': 'no-cache, no-transform',
        vary: 'Accept-Encoding',
      })
      const orders = client.messages.filter(({ event }) => event === 'order')
      expect(orders.map(({ data }) => data)).toEqual(
        Array.from({ length: 21 }, (_, at) => dataOf(at + 1)),
      )
      const own = client.messages.filter(({ event }) => event === 'own')
      const expected = index === 0 ? ['10', '20'] : index === 5 ? ['5', '15'] : []
      expect(own.map(({ data }) => data)).toEqual(expected)
      expect(client.data.filter(data => data === 'direct')).toHaveLength(index === 3 ? 2 : 0)
      expect(client.messages[0]).toMatchObject({ event: 'ready', data: String(index) })
      expect(client.events.at(-1)).toMatchObject({ event: 'close', data: 'bye', id: 'sse.end' })
    }
  })

  test('a client that comes back gets what it missed, and one whose place is gone gets a gap', async () => {
    const pool = testPool({ ...options, window: { events: 100 } })
    const open = await serve({ pool })
    const first = await open('/?id=ada')
    await pool.broadcast(order(1))
    await first.until(has(1))
    const cursor = first.lastEventId
    first.close()
    for (let count = 2; count <= 50; count += 1) void pool.broadcast(order(count))
    const again = await open('/?id=ada', { 'last-event-id': cursor })
    await again.until(has(50))
    expect(again.data).toEqual(Array.from({ length: 49 }, (_, at) => dataOf(at + 2)))

    for (let count = 51; count <= 200; count += 1) void pool.broadcast(order(count))
    const late = await open('/?id=ada', { 'last-event-id': cursor })
    expect(await late.event('sse.gap')).toMatchObject({ data: '{"reason":"trimmed"}' })
    await pool.broadcast(order(201))
    await late.until(has(201))
    await again.until(has(201))
    expect(again.data).toHaveLength(200)
  })

  test('heartbeats, a quiet end, and a `retry` of its own arrive', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const pool = testPool({ ...options, pingInterval: 1000 })
    const open = await serve({ pool, retry: [2000, 2000] })
    const client = await open('/?id=ada')
    await client.event('sse.cursor')
    expect(client.text).toContain(':ok\nretry: 2000\n')
    const cursors = () => client.events.filter(({ event }) => event === 'sse.cursor').length
    for (const wanted of [2, 3]) {
      vi.advanceTimersByTime(1000)
      await client.until(() => cursors() >= wanted)
    }
    streamOf(pool, 'ada').face.rotate()
    expect(await client.ended).toBe(true)
  })

  test('an event that leaves a client out, and one of several kilobytes, arrive as sent', async () => {
    const pool = testPool(options)
    const open = await serve({ pool })
    const ada = await open('/?id=ada')
    const bob = await open('/?id=bob')
    const large = Array.from({ length: 5000 }, (_, at) => at.toString(36)).join(' ä😀 ')
    await pool.broadcast(order(1), { except: 'ada' })
    await pool.broadcast(large)
    await pool.broadcast(large.toUpperCase())
    await pool.broadcast(order(2))
    for (const client of [ada, bob]) await client.until(has(2))
    expect(bob.data).toEqual([dataOf(1), large, large.toUpperCase(), dataOf(2)])
    expect(ada.data).toEqual(bob.data.slice(1))
  })
})

test('over HTTP/2, where a cut is a clean end, the gzip stream of a handler that has failed is incomplete', async () => {
  const pool = testPool()
  const open = await overHttp2({ pool }, async ctx => {
    ctx.sse.send('first')
    await ctx.sse.drained()
    for (let count = 0; count < 5; count += 1) await turn()
    throw new Error('planned')
  })
  const client = await open('/?id=ada')
  expect(await client.ended).toBe(false)
  expect(client.data).toEqual(['first'])
})

describe('who gets it', () => {
  test.each([
    [true, 'gzip, deflate, br, zstd'],
    [true, 'br,gzip'],
    [true, 'GZIP'],
    [true, 'deflate, gzip;q=0.5'],
    [true, '*;q=0.5'],
    [false, 'gzip;q=0, br'],
    [false, 'identity, gzip;q=0.5'],
    [false, 'deflate, br'],
    [false, 'notgzip, gzip2'],
    [false, ''],
    [false, undefined],
  ])('%s: Accept-Encoding: %s', async (isCompressed, accepted) => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, compress: true })
    const headers = accepted === undefined ? {} : { 'Accept-Encoding': accepted }
    const client = isCompressed
      ? await connectGzip(origin, '/?id=ada', headers)
      : await connect(origin, '/?id=ada', { headers })
    expect(client.headers['content-encoding']).toBe(isCompressed ? 'gzip' : undefined)
    expect(client.headers.vary).toBe('Accept-Encoding')
    await pool.broadcast(order(1))
    await client.until(has(1))
  })

  test('nobody, if the option is not set', async () => {
    const { origin } = await serveStreams({ pool: testPool() })
    const { headers } = await connect(origin, '/', { headers: { 'Accept-Encoding': 'gzip' } })
    expect(headers).not.toHaveProperty('content-encoding')
    expect(headers).not.toHaveProperty('vary')
  })

  test('a HEAD request gets the headers that a GET would', async () => {
    const { origin } = await serveStreams({ pool: testPool(), compress: true })
    const { status, headers } = await fetch(origin, { method: 'HEAD' })
    expect(status).toBe(200)
    expect(headers.get('content-encoding')).toBe('gzip')
    expect(headers.get('vary')).toBe('Accept-Encoding')
  })

  test('not the empty stream of a full pool', async () => {
    const pool = testPool({ maxClients: 1 })
    const { origin } = await serveStreams({ pool, compress: true, overflow: 'retry' })
    await connectGzip(origin)
    const answer = await fetch(origin)
    expect(answer.headers.get('content-encoding')).toBeNull()
    expect(await answer.text()).toMatch(/^:full\nretry: \d+\n$/)
  })

  test('not one whose Content-Encoding the app has set, as it compresses by itself', async () => {
    const pool = testPool()
    const { origin } = await serveApp(
      (ctx, next) => {
        ctx.set('Content-Encoding', 'identity')
        return next()
      },
      sse({ pool, compress: true }),
    )
    const client = await connect(origin, '/', { headers: { 'Accept-Encoding': 'gzip' } })
    expect(client.headers['content-encoding']).toBe('identity')
    await pool.broadcast(order(1))
    await client.until(has(1))
  })

  test('koa-compress around it compresses nothing a second time', async () => {
    const pool = testPool()
    const { origin, errors } = await serveApp(
      koaCompress({ threshold: 0 }),
      sse({ pool, compress: true }),
    )
    const client = await connectGzip(origin)
    expect(client.headers['content-encoding']).toBe('gzip')
    expect(client.headers.vary).toBe('Accept-Encoding')
    await pool.broadcast(order(1))
    await client.until(has(1))
    expect(errors).toEqual([])
  })

  test('HTTP/1.0 too, without chunks', async () => {
    const pool = testPool()
    const { port } = await serveStreams({ pool, compress: true })
    const opened = nextOpen(pool)
    const socket = await rawGet(port, '/?id=ada', '1.0', 'Accept-Encoding: gzip\r\n')
    const parts: Buffer[] = []
    socket.on('data', part => parts.push(part))
    const stream = await opened
    await pool.broadcast(order(1))
    stream.end()
    await once(socket, 'close')
    const answer = Buffer.concat(parts)
    const body = answer.subarray(answer.indexOf('\r\n\r\n') + 4)
    expect(gunzipSync(body).toString()).toContain(dataOf(1))
  })
})

test('a broadcast is compressed once, and written once to each socket', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, compress: true })
  const clients: TestClient[] = []
  for (let index = 0; index < 10; index += 1) {
    clients.push(await connectGzip(origin, `/?id=${index}`))
  }
  await pool.broadcast(order(1))
  for (const client of clients) await client.until(has(1))
  const writes: unknown[] = []
  for (const socket of streamsOf(pool).map(({ connection }) => connection as Socket)) {
    const original = socket.write
    socket.write = function (this: typeof socket, ...args: unknown[]) {
      writes.push(args[0])
      return Reflect.apply(original, this, args)
    }
  }
  await pool.broadcast(order(2))
  for (const client of clients) await client.until(has(2))
  expect(writes).toHaveLength(10)
  expect(new Set(writes).size).toBe(1)
})

test('bytes that wait in a full socket count as they are, not as they were before', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, compress: true })
  const client = await connectGzip(origin, '/?id=ada')
  client.response.pause()
  await pool.broadcast('x'.repeat(500_000))
  expect(streamOf(pool, 'ada').unsentBytes).toBeLessThan(50_000)
})

test('readers of a run get it compressed too, from its beginning to its end', async () => {
  const runs = new Runs({ pool: testPool() })
  const { origin } = await serveApp(runs.stream({ id: () => 'answer', compress: true }))
  const more = deferred()
  await runs.start('answer', async run => {
    for (let count = 1; count <= 10; count += 1) run.append(order(count))
    await more.promise
    for (let count = 11; count <= 20; count += 1) run.append(order(count))
  })
  const clients = [await connectGzip(origin), await connectGzip(origin)]
  for (const client of clients) await client.until(has(10))
  more.resolve()
  for (const client of clients) {
    expect(await client.ended).toBe(true)
    expect(client.headers['content-encoding']).toBe('gzip')
    const orders = client.messages.filter(({ event }) => event === 'order')
    expect(orders.map(({ data }) => data)).toEqual(
      Array.from({ length: 20 }, (_, at) => dataOf(at + 1)),
    )
    expect(client.events.at(-1)).toMatchObject({ event: 'close', id: 'sse.end' })
  }
})

describe('clients that others wrote read it to the end', () => {
  async function serve() {
    const pool = testPool()
    const served = await serveStreams({ pool, compress: true, retry: 1 })
    const finish = async () => {
      await nextOpen(pool)
      for (let count = 1; count <= 3; count += 1) await pool.broadcast(order(count))
      await pool.remove('ada', 'bye')
    }
    return { ...served, pool, url: `${served.origin}/?id=ada`, finished: finish() }
  }

  test('fetch', async () => {
    const { url, finished } = await serve()
    const answer = await fetch(url, { headers: { Accept: 'text/event-stream' } })
    const text = await answer.text()
    await finished
    expect(answer.headers.get('content-encoding')).toBe('gzip')
    for (let count = 1; count <= 3; count += 1) expect(text).toContain(`data: ${dataOf(count)}\n`)
    expect(text).toContain('event: close\ndata: bye\n')
  })

  test('curl --compressed', async () => {
    const { url } = await serve()
    const { stdout } = await promisify(execFile)('curl', [
      '--silent',
      '--fail',
      '--compressed',
      url,
    ])
    for (let count = 1; count <= 3; count += 1) expect(stdout).toContain(`data: ${dataOf(count)}\n`)
    expect(stdout).toContain('event: close\ndata: bye\n')
  })

  test.each([
    ['eventsource', (url: string) => new EventSource(url)],
    ['EventSource of undici', (url: string) => new UndiciEventSource(url)],
  ])('%s, across a reconnect', async (_, start) => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, compress: true, retry: 1 })
    const opened = nextOpen(pool)
    const source = start(`${origin}/?id=ada`)
    onTestFinished(() => source.close())
    const data: string[] = []
    const arrived = deferred()
    source.addEventListener('order', event => {
      if (data.push((event as MessageEvent).data) === 3) arrived.resolve()
    })
    const closed = new Promise(resolve => source.addEventListener('close', resolve))
    await opened
    await pool.broadcast(order(1))
    const reopened = nextOpen(pool)
    streamOf(pool, 'ada').face.rotate()
    await pool.broadcast(order(2))
    await reopened
    await pool.broadcast(order(3))
    await arrived.promise
    expect(data).toEqual([1, 2, 3].map(dataOf))
    await pool.remove('ada')
    await closed
  })
})
