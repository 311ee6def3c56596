/** Events sent before the end arrive, and nothing is left behind afterwards. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import http2 from 'node:http2'
import type { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { EventSource } from 'eventsource'
import Koa from 'koa'
import { type PoolOptions, sse } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ENDINGS } from '../../src/stream/closing.js'
import { deferred, nextOpen, rawGet } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

test('events sent before the pool closes arrive before its streams end', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  await pool.broadcast('back in a minute')
  await pool.close()
  await client.ended
  expect(client.data).toEqual(['back in a minute'])
})

test('events sent before a stream without resume is rotated arrive', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, resume: false })
  const opened = nextOpen(pool)
  const client = await connect(origin, '/?id=ada')
  await client.until(({ comments }) => comments.length > 0)
  void pool.broadcast('last')
  await opened
  streamOf(pool, 'ada').close('rotated')
  await client.ended
  expect(client.data).toEqual(['last'])
})

test('rotate() ends a stream so that its client comes back and resumes (fault 120)', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, retry: 1 })
  const opened = nextOpen(pool)
  const client = new EventSource(`${origin}/?id=ada`)
  onTestFinished(() => client.close())
  const stream = await opened
  const data: unknown[] = []
  const arrived = deferred()
  client.addEventListener('message', event => data.push(event.data) === 2 && arrived.resolve())
  client.addEventListener('close', () => arrived.reject(new Error('ended for good')))
  await once(client, 'open')
  await pool.broadcast('before')
  const reopened = nextOpen(pool)
  stream.rotate()
  stream.rotate()
  await pool.broadcast('meanwhile')
  expect(await stream.closed).toBe('rotated')
  await arrived.promise
  expect(data).toEqual(['before', 'meanwhile'])
  expect((await reopened).lastEventId).not.toBe('')
  expect(pool.stats().closed.rotated).toBe(1)
})

test('rotate() in the handler ends the response cleanly, without a close event', async () => {
  const { origin } = await serveStreams({ pool: testPool() }, ctx => {
    ctx.sse.send('first')
    ctx.sse.rotate()
    expect(ctx.sse.send('too late')).toBe(false)
  })
  const client = await connect(origin)
  expect(client.status).toBe(200)
  expect(await client.ended).toBe(true)
  expect(client.events.map(({ event, data }) => event ?? data)).toEqual(['first'])
})

test('a reader that does not take the last event is cut off after stallTimeout', async () => {
  const pool = testPool({ stallTimeout: 50, maxEventBytes: 2 ** 26, maxBufferedBytes: 2 ** 26 })
  const { server, port } = await serveStreams({ pool })
  const opened = nextOpen(pool)
  const connected = once(server, 'connection') as Promise<[Socket]>
  const socket = await rawGet(port, '/?id=ada', '1.1', 'Accept: text/event-stream\r\n')
  const [ours] = await connected
  const stream = await opened
  await once(socket, 'data')
  socket.pause()
  const gone = new Promise(resolve => ours.once('close', () => resolve('cut off')))
  stream.end('x'.repeat(2 ** 25))
  expect(await stream.closed).toBe('end')
  expect(await gone).toBe('cut off')
})

test('over HTTP/2 too, a reader that does not take the last event is cut off', async () => {
  const pool = testPool({ stallTimeout: 50, maxEventBytes: 2 ** 26, maxBufferedBytes: 2 ** 26 })
  const app = new Koa().use(sse({ pool }))
  const server = http2.createServer(app.callback())
  const { origin } = await listen(server)
  const session = http2.connect(origin)
  onTestFinished(() => session.destroy())
  const served = once(server, 'stream') as Promise<[http2.ServerHttp2Stream]>
  const opened = nextOpen(pool)
  const request = session.request({ accept: 'text/event-stream' })
  request.on('error', () => {})
  await once(request, 'response')
  const [ours] = await served
  const stream = await opened
  const gone = new Promise(resolve => ours.once('close', () => resolve('cut off')))
  stream.end('x'.repeat(2 ** 25))
  expect(await stream.closed).toBe('end')
  expect(await gone).toBe('cut off')
})

test('a stream with a full socket is cut off when it expires, and its client resumes where it was', async () => {
  const pool = testPool({ maxEventBytes: 2 ** 26 })
  const { server, port, origin } = await serveStreams({ pool })
  const cursor = await pool.broadcast('before')
  const connected = once(server, 'connection') as Promise<[Socket]>
  const opened = nextOpen(pool)
  const headers = `Accept: text/event-stream\r\nLast-Event-ID: ${cursor}\r\n`
  const socket = await rawGet(port, '/?id=ada', '1.1', headers)
  const [ours] = await connected
  const stream = await opened
  await once(socket, 'data')
  socket.pause()
  await pool.send('ada', 'x'.repeat(2 ** 24))
  await turn()
  await pool.send('ada', 'later')
  expect(ours.writableNeedDrain).toBe(true)
  const gone = once(ours, 'close')
  streamOf(pool, 'ada').close('expired')
  expect(await stream.closed).toBe('expired')
  await gone
  let rest = ''
  socket.on('data', data => {
    rest += data
  })
  socket.resume()
  await once(socket, 'close')
  expect(rest).not.toContain('later')
  const client = await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': cursor } })
  await client.until(({ data }) => data.length === 2)
  expect(client.data.map(text => text.length)).toEqual([2 ** 24, 5])
})

test('a stream that is dismissed before it opens still gets what was sent to it', async () => {
  const pool = testPool()
  const go = deferred()
  const { origin } = await serveStreams({ pool }, () => go.promise)
  const opened = nextOpen(pool)
  const connecting = connect(origin, '/?id=ada')
  await opened
  await pool.broadcast('one')
  const closed = pool.close()
  go.resolve()
  const client = await connecting
  await client.ended
  await closed
  expect(client.data).toEqual(['one'])
})

describe('while the engine does not answer a send to it, a stream', () => {
  async function open(options: PoolOptions = {}) {
    const log = new FakeLog()
    const pool = testPool({ log, ...options })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    const answer = deferred()
    log.beforeAppend = () => answer.promise
    void pool.broadcast('on its way')
    return { log, pool, origin, client, answer, stream: streamOf(pool, 'ada') }
  }

  test.each(['drain', 'rotated'] as const)(
    'that closes as %s still gets the direct sends that wait for it',
    async reason => {
      const { pool, client, stream } = await open()
      expect(stream.face.send('direct')).toBe(true)
      if (reason === 'drain') void pool.close()
      else stream.close(reason)
      expect(await client.ended).toBe(true)
      expect(client.data).toEqual(['direct'])
      expect(pool.stats().closed[reason]).toBe(1)
    },
  )

  test('that was told to end gets its close event when the pool closes', async () => {
    const { pool, client, stream } = await open()
    stream.face.end('bye')
    void pool.close()
    await client.ended
    expect(client.messages).toMatchObject([{ event: 'close', id: 'sse.end', data: 'bye' }])
  })

  test('that was told to end gets nothing that was sent to its client after a removal', async () => {
    const { log, client, stream, answer } = await open()
    stream.face.end()
    log.store({ nonce: 'removal', target: '-ada', frame: 'data: removed\n\n' })
    log.store({ nonce: 'secret', target: '@ada', frame: 'data: secret\n\n' })
    log.deliver()
    await turn()
    answer.resolve()
    await client.ended
    expect(client.messages).toMatchObject([{ event: 'close', id: 'sse.end' }])
  })

  test('that was told to end gets its close event when another stream replaces it', async () => {
    const { pool, origin, client, stream } = await open({ maxStreamsPerClient: 1 })
    stream.face.end('bye')
    await connect(origin, '/?id=ada')
    expect(stream.isClosed).toBe(true)
    await client.ended
    expect(client.messages).toMatchObject([{ event: 'close', id: 'sse.end', data: 'bye' }])
    expect(pool.stats().closed).toMatchObject({ end: 1, replaced: 0 })
  })

  test('that is replaced gets its close event, and so does the one that replaced it', async () => {
    const { pool, origin, client } = await open({ maxStreamsPerClient: 1 })
    const second = await connect(origin, '/?id=ada')
    await connect(origin, '/?id=ada')
    for (const replaced of [client, second]) {
      await replaced.ended
      expect(replaced.messages).toMatchObject([{ event: 'close', id: 'sse.end' }])
    }
    expect(pool.stats().closed.replaced).toBe(2)
  })
})

test('docs/guarantees.md shows how each close reason ends a stream', async () => {
  const page = await readFile(new URL('../../docs/guarantees.md', import.meta.url), 'utf8')
  const [, section = ''] = page.split('## How a stream ends')
  const [table = ''] = section.split('\n\n- ')
  const reasons = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, reason]) => reason)
  expect(reasons.sort()).toEqual(Object.keys(ENDINGS).sort())
})
