/** Connections that lean mode does not recognize: their streams stay ordinary and work. */
import { once } from 'node:events'
import type http from 'node:http'
import http2 from 'node:http2'
import Koa from 'koa'
import { sse } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test } from 'vitest'
import { closeOf, deferred, type Handler, rawGet, reading, serveApp } from '../helpers/app.js'
import { watchAttempts } from '../helpers/lean.js'
import { connect, listen, rawConnection, serveStreams, testPool } from '../helpers/server.js'

const ask = (path: string, headers = '') =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`

/** `/plain` is ordinary, everything else a stream of a lean pool. */
async function serveBoth(handler?: Handler) {
  const pool = testPool({ lean: true })
  const attempt = watchAttempts()
  const plain: Koa.Middleware = (ctx, next) => {
    if (ctx.path !== '/plain') return next()
    ctx.body = 'plain answer'
  }
  const handlers = handler ? [handler] : []
  const served = await serveApp(plain, sse({ pool, id: ctx => ctx.path.slice(1) }), ...handlers)
  return { ...served, pool, attempt }
}

describe('a stream of a lean pool stays ordinary', () => {
  test.each<[string, Handler]>([
    [
      'if its response has its own write',
      ctx => {
        const { write } = ctx.res
        ctx.res.write = function (this: http.ServerResponse, ...args: unknown[]) {
          return Reflect.apply(write, this, args)
        } as typeof write
      },
    ],
    [
      'if its response has its own end',
      ctx => {
        const { end } = ctx.res
        ctx.res.end = function (this: http.ServerResponse, ...args: unknown[]) {
          return Reflect.apply(end, this, args)
        } as typeof end
      },
    ],
    [
      'if its app closes the connection after the response',
      ctx => ctx.set({ Connection: 'close', 'Cache-Control': 'no-store' }),
    ],
    ...Object.entries({
      close: 'bound socketOnClose',
      data: 'bound socketOnData',
      drain: 'bound socketOnDrain',
      end: 'bound socketOnEnd',
      error: 'socketOnError',
      timeout: 'socketOnTimeout',
    }).flatMap(([event, name]): [string, Handler][] => [
      [
        `if its socket has two listeners of ${event} with the name of Node's`,
        ctx => {
          ctx.req.socket.on(
            event,
            Object.defineProperty(() => {}, 'name', { value: name }),
          )
        },
      ],
      [
        `if its socket has another listener of ${event} in place of Node's`,
        ctx => {
          const { socket } = ctx.req
          const original = socket.listeners(event).find(listener => listener.name === name)
          if (original === undefined) throw new Error(`Node has no listener ${name}`)
          const listener = original as (...args: unknown[]) => void
          socket.off(event, listener)
          socket.on(event, (...args: unknown[]) => listener.apply(socket, args))
        },
      ],
    ]),
    [
      "if its response has another listener of finish in place of Node's",
      ctx => {
        const [original] = ctx.res.listeners('finish') as (() => void)[]
        if (original?.name !== 'bound resOnFinish') throw new Error('Node has no resOnFinish')
        ctx.res.off('finish', original)
        ctx.res.on('finish', () => original())
      },
    ],
  ])('%s', async (_, handler) => {
    const { origin, pool, attempt, errors } = await serveBoth(handler)
    const opened = connect(origin, '/ada')
    const stream = await attempt()
    expect(stream.isLean).toBe(false)
    const client = await opened
    await pool.send('ada', 'pooled')
    stream.face.send('direct')
    await client.until(({ data }) => data.includes('direct'))
    expect(pool.stats()).toMatchObject({ streams: 1, lean: 0 })
    stream.face.end()
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['pooled', 'direct', ''])
    expect(errors).toEqual([])
  })
  test.each([
    ['with Connection: close', '1.1', 'Connection: close\r\n'],
    ['over HTTP/1.0', '1.0', 'Connection: keep-alive\r\n'],
  ])('%s', async (_, version, headers) => {
    const { port, pool, attempt } = await serveBoth()
    const socket = await rawGet(port, '/ada', version, headers)
    const answer = reading(socket)
    const stream = await attempt()
    expect(stream.isLean).toBe(false)
    await pool.send('ada', 'pooled')
    await answer.until('data: pooled')
    const closed = closeOf(socket)
    stream.face.end()
    await closed
    expect(answer.text).toContain('id: sse.end')
  })

  test('over HTTP/2', async () => {
    const pool = testPool({ lean: true })
    const attempt = watchAttempts()
    const server = http2.createServer(new Koa().use(sse({ pool, id: () => 'ada' })).callback())
    const { origin } = await listen(server)
    const session = http2.connect(origin)
    onTestFinished(() => session.destroy())
    const request = session.request({ ':path': '/' }).setEncoding('utf8')
    let text = ''
    request.on('data', data => {
      text += data
    })
    const stream = await attempt()
    expect(stream.isLean).toBe(false)
    await pool.send('ada', 'pooled')
    stream.face.end()
    await once(request, 'close')
    expect(text).toMatch(/data: pooled\nid: \S+\n\nevent: close\ndata: ?\nid: sse\.end/)
  })

  test('if its body has not arrived yet, and its handler gets the rest', async () => {
    const body = deferred<string>()
    const { port, pool, attempt } = await serveBoth(ctx => {
      let text = ''
      ctx.req.setEncoding('utf8').on('data', data => {
        text += data
      })
      ctx.req.on('end', () => body.resolve(text))
    })
    const socket = await rawConnection(port)
    const answer = reading(socket)
    socket.write('POST /ada HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf')
    const stream = await attempt()
    expect(stream.isLean).toBe(false)
    socket.write('rest')
    expect(await body.promise).toBe('halfrest')
    await pool.send('ada', 'pooled')
    await answer.until('data: pooled')
    stream.face.end()
    await answer.until('\r\n0\r\n\r\n')
    socket.write(ask('/plain'))
    await answer.until('plain answer')
  })

  test('if another request already waits behind it, which is answered when the stream has ended', async () => {
    const { port, pool, attempt } = await serveBoth()
    const socket = await rawConnection(port)
    const answer = reading(socket)
    socket.write(ask('/ada') + ask('/plain') + ask('/bob'))
    const ada = await attempt()
    expect(ada.isLean).toBe(false)
    await pool.send('ada', 'pooled')
    await answer.until('data: pooled')
    expect(answer.text.match(/HTTP\/1\.1 200/g)).toHaveLength(1)
    ada.face.end()
    await answer.until('plain answer')
    await answer.until('plain answerHTTP/1.1 200 OK')
    await pool.send('bob', 'for bob')
    await answer.until('data: for bob')
    expect(pool.stats().streams).toBe(1)
  })

  test('if it is pipelined behind a response that is not out yet', async () => {
    const slow = deferred()
    const pool = testPool({ lean: true })
    const attempt = watchAttempts()
    const { port } = await serveApp(
      async (ctx, next) => {
        if (ctx.path !== '/slow') return next()
        await slow.promise
        ctx.body = 'slow answer'
      },
      sse({ pool, id: () => 'ada' }),
    )
    const socket = await rawConnection(port)
    const answer = reading(socket)
    socket.write(ask('/slow') + ask('/ada'))
    const stream = await attempt()
    expect(stream.isLean).toBe(false)
    void pool.send('ada', 'pooled')
    slow.resolve()
    await answer.until('data: pooled')
    expect(answer.text.indexOf('slow answer')).toBeLessThan(answer.text.indexOf('pooled'))
    expect(pool.stats().lean).toBe(0)
  })

  test('if its socket is full at once, and everything arrives', async () => {
    const pool = testPool({ lean: true, maxBufferedBytes: 64 * 1024 * 1024 })
    const attempt = watchAttempts()
    const { origin } = await serveStreams({ pool }, ctx => {
      for (let i = 0; i < 300; i++) ctx.sse.send('x'.repeat(65_536))
    })
    const client = await connect(origin)
    const stream = await attempt()
    expect(stream.isLean).toBe(false)
    stream.face.end()
    expect(await client.ended).toBe(true)
    expect(client.data).toHaveLength(301)
  })

  test('if it ended in its handler, and its connection serves the next request', async () => {
    const { port, pool, attempt } = await serveBoth(ctx => ctx.sse.end('done'))
    const socket = await rawConnection(port)
    const answer = reading(socket)
    socket.write(ask('/ada'))
    await attempt()
    await answer.until('\r\n0\r\n\r\n')
    socket.write(ask('/plain'))
    await answer.until('plain answer')
    expect(pool.stats()).toMatchObject({ streams: 0, closed: { end: 1 } })
  })
})

describe('a stream of a lean pool is lean', () => {
  test.each([
    ['and was read', '/ada?read', 300_000],
    ['and was not read', '/ada', 100],
    // More than Node buffers, so Node has paused the socket.
    ['and much of it waits unread', '/ada', 30_000],
  ])(
    'if a body has arrived %s, and a client that leaves is still noticed',
    async (_, path, size) => {
      const { port, pool, attempt } = await serveBoth(async ctx => {
        if (ctx.query.read === undefined) return
        for await (const _chunk of ctx.req);
      })
      const socket = await rawConnection(port)
      const answer = reading(socket)
      const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`
      socket.write(head + 'x'.repeat(size))
      const stream = await attempt()
      expect(stream.isLean).toBe(true)
      await pool.send('ada', 'pooled')
      await answer.until('data: pooled')
      socket.end()
      expect(await stream.face.closed).toBe('client')
    },
  )

  test('on a connection that served other requests before', async () => {
    const { port, pool, attempt } = await serveBoth()
    const socket = await rawConnection(port)
    const answer = reading(socket)
    socket.write(ask('/plain'))
    await answer.until('plain answer')
    socket.write(ask('/ada'))
    const stream = await attempt()
    expect(stream.isLean).toBe(true)
    await pool.send('ada', 'pooled')
    await answer.until('data: pooled')
    const closed = closeOf(socket)
    stream.face.end()
    await closed
    expect(answer.text).toMatch(/\r\n0\r\n\r\n$/)
  })
})
