/** Many streams on one connection. */
import { once } from 'node:events'
import http2 from 'node:http2'
import Koa from 'koa'
import { type PoolOptions, sse } from 'koa-sse-pool'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { closeOf, nextOpen, reading, serveApp } from '../helpers/app.js'
import { connect, listen, rawConnection, testPool } from '../helpers/server.js'

const ask = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`

const warnings = vi.fn()

beforeEach(() => {
  process.on('warning', warnings)
})

afterEach(async () => {
  // Warnings are emitted by `process.nextTick`.
  await turn()
  process.off('warning', warnings)
  expect(warnings).not.toHaveBeenCalled()
})

const turn = () => new Promise(resolve => setImmediate(resolve))

describe('2,000 pipelined requests on one connection', () => {
  async function pipeline(options: PoolOptions) {
    const pool = testPool(options)
    const served = await serveApp(sse({ pool, id: ctx => ctx.path.slice(1) }))
    const socket = await rawConnection(served.port)
    const answers = reading(socket)
    socket.write(Array.from({ length: 2000 }, (_, i) => ask(`/${i}`)).join(''))
    const { connection } = pool.stats().refused
    expect(connection).toBe(0)
    while (pool.stats().refused.connection < 1900) await turn()
    return { ...served, pool, socket, answers }
  }

  test('hold one place of maxClients, and 100 streams at most (fault 71)', async () => {
    const { pool, origin } = await pipeline({ maxClients: 2 })
    expect(pool.connections).toBe(100)
    expect(pool.stats().refused).toMatchObject({ connection: 1900, full: 0 })
    const other = await connect(origin, '/other')
    expect(other.status).toBe(200)
    const late = await connect(origin, '/late')
    expect(late.status).toBe(503)
    expect(pool.stats().refused.full).toBe(1)
  })

  test('give their places back as they end, one after the other (fault 71)', async () => {
    const { pool, socket, answers, origin } = await pipeline({ maxClients: 1 })
    await pool.remove('0')
    await answers.until('\r\n0\r\n\r\nHTTP/1.1 200 OK')
    expect((await connect(origin, '/other')).status).toBe(503)
    socket.destroy()
    await closeOf(socket)
    // Node reads nothing more from a connection with so many answers queued: only a write shows that it is gone.
    while (pool.connections > 0) {
      void pool.broadcast('live')
      await turn()
    }
    const opened = nextOpen(pool)
    expect((await connect(origin, '/other')).status).toBe(200)
    await opened
    expect((await connect(origin, '/late')).status).toBe(503)
  })
})

test.each([
  [undefined, 100],
  [2, 2],
])(
  'an HTTP/2 session with maxStreamsPerConnection: %s carries %i streams (fault 71)',
  async (max, expected) => {
    const pool = testPool({ maxStreamsPerConnection: max })
    const app = new Koa().use(sse({ pool }))
    const { origin } = await listen(http2.createServer(app.callback()))
    const statuses = async (count: number) => {
      const session = http2.connect(origin)
      onTestFinished(() => session.destroy())
      session.on('error', () => {})
      const requests = Array.from({ length: count }, () => session.request())
      for (const request of requests) request.on('error', () => {})
      const answers = await Promise.all(requests.map(request => once(request, 'response')))
      return answers.map(([headers]) => headers[':status'])
    }
    const all = await statuses(3000)
    expect(all.filter(status => status === 200)).toHaveLength(expected)
    expect(all.filter(status => status === 503)).toHaveLength(3000 - expected)
    expect(pool.stats().refused).toMatchObject({ connection: 3000 - expected, full: 0 })
    expect(await statuses(1)).toEqual([200])
  },
)
