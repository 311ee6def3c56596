/** Requests with a body, which nobody may read. */
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import http2 from 'node:http2'
import Koa from 'koa'
import { sse } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Handler } from '../helpers/app.js'
import { listen, TestClient, testPool } from '../helpers/server.js'

/** More than the socket buffers of both sides take. */
const BODY = Buffer.alloc(2 ** 24)

describe.each([
  ['ordinary', false],
  ['lean', true],
])('over HTTP/1.1 (%s)', (_, lean) => {
  async function post(handler: Handler) {
    const pool = testPool({ lean })
    const app = new Koa().use(sse({ pool, id: () => 'ada' })).use(handler as Koa.Middleware)
    const server = http.createServer(app.callback())
    const received = once(server, 'request') as Promise<[IncomingMessage]>
    const { origin } = await listen(server)
    const request = http.request(origin, { method: 'POST', agent: false })
    request.on('error', () => {})
    onTestFinished(() => {
      request.destroy()
    })
    request.end(BODY)
    const [req] = await received
    const [response] = await once(request, 'response')
    return { pool, req, client: new TestClient(response) }
  }

  test('a POST body that nobody reads is drained once the stream is open (fault 94)', async () => {
    const { pool, req, client } = await post(() => {})
    while (!req.complete) await new Promise(resolve => setImmediate(resolve))
    await pool.send('ada', 'live')
    await client.until(({ data }) => data.includes('live'))
  })

  test('a handler that reads the body after its first send gets all of it (fault 94)', async () => {
    const { client } = await post(async ctx => {
      ctx.sse.send('reading')
      await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
      let bytes = 0
      for await (const chunk of ctx.req) bytes += chunk.length
      ctx.sse.send(String(bytes))
    })
    await client.until(({ data }) => data.length === 2)
    expect(client.data).toEqual(['reading', String(BODY.length)])
  })
})

test('over HTTP/2 a body that nobody reads is drained too, as its session would be full (fault 94)', async () => {
  const pool = testPool()
  const app = new Koa().use(sse({ pool }))
  const { origin } = await listen(http2.createServer(app.callback()))
  const session = http2.connect(origin)
  onTestFinished(() => session.destroy())
  const request = session.request({ ':method': 'POST' })
  request.on('error', () => {})
  // More than the windows of stream and session, less than a client session may hold.
  request.end(BODY.subarray(0, 2 ** 20))
  await once(request, 'response')
  if (!request.writableFinished) await once(request, 'finish')
})
