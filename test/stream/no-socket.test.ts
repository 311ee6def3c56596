/** Responses without a socket of Node's, as adapters and tools that inject requests make them. */
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket as RealSocket, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import Koa from 'koa'
import { sse } from 'koa-sse-pool'
import inject from 'light-my-request'
import { expect, test } from 'vitest'
import type { Handler } from '../helpers/app.js'
import { testPool } from '../helpers/server.js'

interface Injected {
  readonly res: ServerResponse
  readonly body: () => string
}

/** As light-my-request does: a socket that swallows everything, and `write` of its own. */
function injected(req: IncomingMessage): Injected {
  let text = ''
  const res = new ServerResponse(req)
  const swallow = new Writable({ write: (_chunk, _encoding, done) => done() })
  res.assignSocket(swallow as unknown as Socket)
  const write = res.write.bind(res) as (chunk: unknown) => boolean
  res.write = (chunk: Buffer) => {
    text += chunk.toString()
    write(chunk)
    return true
  }
  // Its own `setTimeout` adds a listener even if there is none.
  res.setTimeout = (_, listener) => res.on('timeout', listener as () => void)
  return { res, body: () => text }
}

/** As serverless-http does: an object with the methods that Node calls. */
function collected({ method }: IncomingMessage): Injected {
  let text = ''
  const res = new ServerResponse({ method } as IncomingMessage)
  res.useChunkedEncodingByDefault = false
  const nothing = () => {}
  res.assignSocket({
    _writableState: {},
    writable: true,
    on: nothing,
    removeListener: nothing,
    destroy: nothing,
    cork: nothing,
    uncork: nothing,
    write(chunk: Buffer | string, encoding: unknown, done: unknown) {
      text += chunk.toString()
      const callback = typeof encoding === 'function' ? encoding : done
      if (typeof callback === 'function') callback()
      return true
    },
  } as unknown as Socket)
  return { res, body: () => text }
}

test.each([
  ['injects a request', injected],
  ['collects the response', collected],
])('an adapter that %s gets every event when the stream ends (fault 93)', async (_, respond) => {
  const pool = testPool()
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', error => errors.push(error))
  const handler: Handler = async ctx => {
    ctx.sse.send('first')
    await pool.broadcast('second')
    await new Promise(resolve => setImmediate(resolve))
    ctx.sse.send('x'.repeat(100_000))
    ctx.sse.send('last')
    ctx.sse.end()
  }
  app.use(sse({ pool })).use(handler as Koa.Middleware)
  const req = Object.assign(new IncomingMessage(new RealSocket()), {
    method: 'GET',
    url: '/',
    headers: { accept: 'text/event-stream' },
  })
  const { res, body } = respond(req)
  const finished = new Promise(resolve => res.once('finish', resolve))
  await app.callback()(req, res)
  await finished
  expect(res.statusCode).toBe(200)
  expect(body().match(/^data: \w{1,10}$/gm)).toEqual(['data: first', 'data: second', 'data: last'])
  expect(body()).toContain('id: sse.end')
  expect(errors).toEqual([])
})

test.each([
  ['an injected request', injected],
  ['a collected response', collected],
])('pool.close() ends the stream of %s (fault 93)', async (_, respond) => {
  const pool = testPool({ stallTimeout: 1 })
  const app = new Koa()
  app.use(sse({ pool }))
  const req = Object.assign(new IncomingMessage(new RealSocket()), {
    method: 'GET',
    url: '/',
    headers: {},
  })
  const { res, body } = respond(req)
  const finished = new Promise(resolve => res.once('finish', resolve))
  await app.callback()(req, res)
  await pool.broadcast('last')
  await pool.close()
  await finished
  expect(body()).toContain('data: last')
  expect(body()).toMatch(/^retry: \d+$/m)
})

test('light-my-request itself gets the events of a stream that the handler ends (fault 93)', async () => {
  const pool = testPool()
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', error => errors.push(error))
  app.use(sse({ pool, id: () => 'ada' }))
  app.use((async ctx => {
    ctx.sse.send('first')
    await pool.send('ada', 'second')
    ctx.sse.end()
  }) as Handler as Koa.Middleware)
  const answer = await inject(app.callback(), { method: 'GET', url: '/' })
  expect(answer.statusCode).toBe(200)
  expect(answer.body).toMatch(/data: first\n\n.*data: second\n.*id: sse\.end\n/s)
  expect(errors).toEqual([])
  expect(pool.connections).toBe(0)
})
