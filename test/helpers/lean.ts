/** Helpers to wait until streams have become lean, which happens after Koa has opened the response. */
import type { PoolOptions, RouteOptions } from 'koa-sse-pool'
import { onTestFinished, vi } from 'vitest'
import { Stream } from '../../src/stream/stream.js'
import type { Handler } from './app.js'
import { connect, serveStreams, testPool } from './server.js'

/** Counts attempts to become lean from now on. The result waits for a number of them and returns the last. */
export function watchAttempts() {
  const tried: Stream[] = []
  let check = () => {}
  const { detach } = Stream.prototype
  const spy = vi.spyOn(Stream.prototype, 'detach')
  spy.mockImplementation(function (this: Stream) {
    detach.call(this)
    tried.push(this)
    check()
  })
  onTestFinished(() => spy.mockRestore())
  return (count = 1) =>
    new Promise<Stream>(resolve => {
      check = () => {
        const stream = tried[count - 1]
        if (stream !== undefined) resolve(stream)
      }
      check()
    })
}

/** One lean stream with its client. */
export async function openLean(
  options: PoolOptions = {},
  route: RouteOptions = {},
  handler?: Handler,
) {
  const pool = testPool({ ...options, lean: true })
  const attempt = watchAttempts()
  const served = await serveStreams({ ...route, pool }, handler)
  const client = await connect(served.origin, '/?id=ada')
  const interior = await attempt()
  const { lean } = pool.stats()
  if (lean !== 1) throw new Error(`The stream should be lean; stats().lean is ${lean}`)
  return { ...served, pool, client, stream: interior.face, interior, attempt }
}
