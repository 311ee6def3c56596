/** HTTP/2 clients that leave during a broadcast: nobody stays in the pool, and nothing is logged. */
import { once } from 'node:events'
import http2, {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type Http2ServerResponse,
  type ServerHttp2Stream,
} from 'node:http2'
import Koa from 'koa'
import { sse } from 'koa-sse-pool'
import { expect, onTestFinished, test } from 'vitest'
import { deferred } from '../helpers/app.js'
import { listen, testPool } from '../helpers/server.js'

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = http2.constants
const SESSIONS = 20
const STREAMS = 10

const turn = () => new Promise(resolve => setImmediate(resolve))

test.each([
  ['reset their streams with NO_ERROR', leaveEach(stream => stream.close(NGHTTP2_NO_ERROR))],
  ['reset their streams with CANCEL', leaveEach(stream => stream.close(NGHTTP2_CANCEL))],
  ['destroy their streams', leaveEach(stream => stream.destroy())],
  ['destroy their sessions', (session: ClientHttp2Session) => session.destroy()],
  ['close their sockets', (session: ClientHttp2Session) => session.socket.destroySoon()],
])(
  'clients that %s during a broadcast leave the pool, and nothing is logged (fault 69)',
  async (_, leave) => {
    const pool = testPool()
    const app = new Koa()
    const errors: Error[] = []
    app.on('error', error => errors.push(error))
    app.use(sse({ pool }))
    const server = http2.createServer(app.callback())
    const { origin } = await listen(server)
    const sessions = Array.from({ length: SESSIONS }, () => {
      const session = http2.connect(origin)
      session.on('error', () => {})
      onTestFinished(() => session.destroy())
      return session
    })
    for (const session of sessions) {
      const streams = Array.from({ length: STREAMS }, () => session.request())
      for (const stream of streams) stream.on('error', () => {}).on('data', () => {})
      openStreams.set(session, streams)
      await Promise.all(streams.map(stream => once(stream, 'response')))
    }
    expect(pool.connections).toBe(SESSIONS * STREAMS)

    const [staying, ...leaving] = sessions as [ClientHttp2Session, ...ClientHttp2Session[]]
    const allGone = deferred()
    pool.on('close', () => pool.connections === STREAMS && allGone.resolve())
    for (const session of leaving) {
      void pool.broadcast('x'.repeat(100_000))
      leave(session)
      await turn()
      void pool.broadcast('go on')
    }
    await allGone.promise
    await turn()
    expect(pool.stats().closed.client).toBe(leaving.length * STREAMS)
    expect(errors).toEqual([])
    expect(staying.destroyed).toBe(false)
  },
)

const openStreams = new WeakMap<ClientHttp2Session, ClientHttp2Stream[]>()

function leaveEach(leave: (stream: ClientHttp2Stream) => void) {
  return (session: ClientHttp2Session) => {
    for (const stream of openStreams.get(session) ?? []) leave(stream)
  }
}

test('a stream that has ended is freed, though its client resets it without an error before it has read the end (fault 69)', async () => {
  const pool = testPool({ stallTimeout: 100 })
  const app = new Koa()
  const opened = deferred<ServerHttp2Stream>()
  app.use(sse({ pool, id: () => 'ada' }))
  app.use(ctx => opened.resolve((ctx.res as unknown as Http2ServerResponse).stream))
  const { origin } = await listen(http2.createServer(app.callback()))
  const session = http2.connect(origin)
  onTestFinished(() => session.destroy())
  const request = session.request()
  request.on('error', () => {}).pause()
  await once(request, 'response')
  const stream = await opened.promise
  // Fills the flow control window and leaves a little in the stream, so that it is not blocked and can end.
  while (stream.writableLength === 0) {
    await pool.send('ada', 'x'.repeat(1000))
    await turn()
  }
  const closed = once(stream, 'close')
  const [face] = pool.get('ada')?.streams ?? []
  face?.end()
  request.close(NGHTTP2_NO_ERROR)
  await closed
  expect(pool.connections).toBe(0)
})
