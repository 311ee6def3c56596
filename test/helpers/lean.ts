/** Waiting for streams to become lean, which is after Koa has asked for its answer. */
import type { PoolOptions, RouteOptions } from 'koa-sse-pool'
import { onTestFinished, vi } from 'vitest'
import { Stream } from '../../src/stream/stream.js'
import type { Handler } from './app.js'
import { connect, serveStreams, testPool } from './server.js'

/** From now on: waits until so many streams have tried to become lean, and gives the last of them. */
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

/** One stream that is lean, with its client. */
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
