/** Apps for the tests of `koa-sse-pool/compat`, on both majors of Koa. */
import { once } from 'node:events'
import http from 'node:http'
import Koa3 from 'koa'
import Koa2 from 'koa2'
import { onTestFinished, vi } from 'vitest'
import { connect, listen, type TestClient } from '../helpers/server.js'

export const koas = [
  ['Koa 3', Koa3],
  ['Koa 2', Koa2],
] as const

// biome-ignore lint/suspicious/noExplicitAny: apps of 0.2.0, which had no types
export type Handler = (ctx: any, next: () => Promise<void>) => unknown

/** An app with these middlewares, and all errors that it reported. */
export async function serve(Koa: typeof Koa3, ...middlewares: unknown[]) {
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', error => {
    if (!error.expose) errors.push(error)
  })
  for (const middleware of middlewares) app.use(middleware as Koa3.Middleware)
  const server = http.createServer(app.callback())
  return { app, server, errors, ...(await listen(server)) }
}

/** The header that browsers send; with it, a stream that is cut differs from one that ends. */
export const keepAlive = { headers: { Connection: 'keep-alive' } }

/** The whole response to a request, once it has ended. */
export async function answer(origin: string, path = '/', options: http.RequestOptions = {}) {
  const client = await connect(origin, path, options)
  await client.ended
  const { status, headers, text } = client
  return { status, headers, text }
}

/** Closes the connection and waits until the app has noticed. */
export async function leave(client: TestClient, stream: NodeJS.WritableStream) {
  const closed = once(stream, 'close')
  client.close()
  await closed
}

/** Stops the timers that a factory of koa-sse-stream 0.2.0 leaves running forever. */
export function withoutTimers<Result>(make: () => Result): Result {
  const spy = vi.spyOn(globalThis, 'setInterval')
  const result = make()
  for (const { value } of spy.mock.results) onTestFinished(() => clearInterval(value))
  spy.mockRestore()
  return result
}
