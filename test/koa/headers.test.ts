/** The headers of a stream's response, as a raw client sees them. */
import { sse } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { rawGet, serveApp } from '../helpers/app.js'
import { connect, testPool } from '../helpers/server.js'

async function serve(own: Record<string, string> = {}) {
  return serveApp(
    (ctx, next) => {
      ctx.set(own)
      return next()
    },
    sse({ pool: testPool() }),
  )
}

describe('with the headers of the app', () => {
  test.each<[Record<string, string>, Record<string, string>]>([
    [{}, { 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'no' }],
    [
      { 'Cache-Control': 'no-store' },
      { 'cache-control': 'no-store, no-transform', 'x-accel-buffering': 'no' },
    ],
    [
      { 'X-Accel-Buffering': 'yes' },
      { 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'yes' },
    ],
    [
      { 'X-Accel-Buffering': 'yes', 'Cache-Control': 'private' },
      { 'cache-control': 'private, no-transform', 'x-accel-buffering': 'yes' },
    ],
    [
      { 'Content-Type': 'text/html', 'X-Accel-Buffering': 'yes' },
      { 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'yes' },
    ],
  ])('%o', async (own, expected) => {
    const { origin } = await serve(own)
    const { headers } = await connect(origin)
    expect(headers).toMatchObject({
      ...expected,
      'content-type': 'text/event-stream; charset=utf-8',
    })
  })
})

describe('Connection', () => {
  test.each<[string, string, string, boolean]>([
    ['HTTP/1.1', '1.1', '', true],
    ['HTTP/1.1 with keep-alive', '1.1', 'Connection: keep-alive\r\n', true],
    ['HTTP/1.1 that will close', '1.1', 'Connection: Close\r\n', false],
    ['HTTP/1.1 that will close, in a list', '1.1', 'Connection: te, close\r\n', false],
    ['HTTP/1.0', '1.0', '', false],
    ['HTTP/1.0 that asks for it', '1.0', 'Connection: keep-alive\r\n', false],
  ])('over %s', async (_, version, header, isKeptAlive) => {
    const { origin } = await serve()
    const socket = await rawGet(Number(new URL(origin).port), '/', version, header)
    let head = ''
    for await (const chunk of socket) {
      head += chunk
      if (head.includes('\r\n\r\n')) break
    }
    const [, connection] = /^connection: (.+)$/im.exec(head) ?? []
    expect(connection?.toLowerCase()).toBe(isKeptAlive ? 'keep-alive' : 'close')
  })
})
