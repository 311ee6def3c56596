/** Whole apps and bare requests for tests, in addition to those of server.ts. */
import http from 'node:http'
import type { Socket } from 'node:net'
import Koa from 'koa'
import type { ClientPool, CloseReason, EventStream } from 'koa-sse-pool'
import { listen, rawConnection } from './server.js'

/** A promise that the test settles. */
export function deferred<Value = void>() {
  let resolve!: (value: Value) => void
  let reject!: (error: Error) => void
  const promise = new Promise<Value>((...settle) => {
    ;[resolve, reject] = settle
  })
  return { promise, resolve, reject }
}

/** A middleware that uses `ctx.sse`, which has another type than one that does not. */
export type Handler = Koa.Middleware<Koa.DefaultState, { sse: EventStream }>

/** An app with these middlewares, and the errors that Koa would have logged. */
export async function serveApp(...middlewares: (Koa.Middleware | Handler)[]) {
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', error => error.expose || errors.push(error))
  for (const middleware of middlewares) app.use(middleware as Koa.Middleware)
  const server = http.createServer(app.callback())
  return { app, server, errors, ...(await listen(server)) }
}

/** The close reasons of all streams from now on, and a promise of the next one. */
export function watchCloses(pool: ClientPool) {
  const next = deferred<CloseReason>()
  const reasons: CloseReason[] = []
  pool.on('close', (_, reason) => {
    reasons.push(reason)
    next.resolve(reason)
  })
  return { reasons, next: next.promise }
}

/** Resolves to the next stream that opens. */
export function nextOpen(pool: ClientPool): Promise<EventStream> {
  return new Promise(resolve => pool.once('open', resolve))
}

/** A bare connection that has already sent its request. */
export async function rawGet(port: number, path: string, version = '1.1', headers = '') {
  const socket = await rawConnection(port)
  socket.write(`GET ${path} HTTP/${version}\r\nHost: localhost\r\n${headers}\r\n`)
  return socket
}

/** Collects what the socket receives; `until` waits for a text in it. */
export function reading(socket: Socket) {
  let text = ''
  let check = () => {}
  socket.on('data', (data: Buffer) => {
    text += data.toString()
    check()
  })
  return {
    get text() {
      return text
    },
    until: (wanted: string) =>
      new Promise<void>(resolve => {
        check = () => {
          if (text.includes(wanted)) resolve()
        }
        check()
      }),
  }
}

/** Resolves when the socket closes. Unlike `once`, it does not reject on an error. */
export function closeOf(socket: Socket): Promise<unknown> {
  return new Promise(resolve => socket.once('close', resolve))
}
