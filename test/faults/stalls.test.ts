/** Clients that take nothing while their socket is not full. */
import { once } from 'node:events'
import http2 from 'node:http2'
import net, { type AddressInfo, type Socket } from 'node:net'
import { type PoolOptions, sse } from 'koa-sse-pool'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { closeOf, nextOpen, rawGet, serveApp, watchCloses } from '../helpers/app.js'
import { streamOf } from '../helpers/interior.js'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.useRealTimers()
})

const turn = () => new Promise(resolve => setImmediate(resolve))

/** Sends until the kernel takes no more, and leaves less than the high-water mark in the socket. */
async function fill(
  stream: { send(text: string): boolean },
  interior: ReturnType<typeof streamOf>,
) {
  const before = interior.isLean
  while (interior.bufferedBytes === 0) {
    stream.send('x'.repeat(4000))
    // Over HTTP/2, what was written is taken in the next turns.
    for (let i = 0; i < 3 && interior.bufferedBytes > 0; i++) await turn()
    await turn()
  }
  expect(interior).toMatchObject({ isBlocked: false, isLean: before })
}

describe.each([
  ['ordinary', false],
  ['lean', true],
])('a socket below its high-water mark that takes nothing, of a stream that is %s', (_, lean) => {
  async function stuckClient(options: PoolOptions = {}) {
    const pool = testPool({ stallTimeout: 50, pingInterval: false, lean, ...options })
    const { server, port } = await serveStreams({ pool })
    const opened = nextOpen(pool)
    const connected = once(server, 'connection') as Promise<[Socket]>
    const socket = await rawGet(port, '/?id=ada', '1.1', 'Accept: text/event-stream\r\n')
    const [ours] = await connected
    const stream = await opened
    await once(socket, 'data')
    socket.pause()
    await turn()
    const interior = streamOf(pool, 'ada')
    expect(interior.isLean).toBe(lean)
    return { pool, server, ours, stream, interior }
  }

  test.each([
    ['without heartbeats', false],
    ['with heartbeats', 10],
  ] as const)('is closed after stallTimeout %s (fault 68)', async (_, pingInterval) => {
    const { pool, ours, stream, interior } = await stuckClient({ pingInterval })
    const closes = watchCloses(pool)
    const gone = closeOf(ours)
    await fill(stream, interior)
    expect(await closes.next).toBe('slow')
    await gone
  })

  test('does not hold up server.close() after pool.close() (fault 68)', async () => {
    const { pool, server, stream, interior } = await stuckClient()
    await fill(stream, interior)
    await pool.close()
    const closed = once(server, 'close')
    server.close()
    await closed
    expect(pool.stats().closed).toMatchObject({ drain: 1 })
  })
})

test('a client that reads is not taken for one that is stuck (fault 68)', async () => {
  const pool = testPool({ stallTimeout: 20 })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  const interior = streamOf(pool, 'ada')
  const isOver = new Promise<void>(resolve => setTimeout(resolve, 200))
  let isRunning = true
  void isOver.then(() => {
    isRunning = false
  })
  for (let i = 0; isRunning; i++) {
    interior.face.send(`${i} ü`)
    await turn()
  }
  expect(pool.stats()).toMatchObject({ streams: 1, closed: { slow: 0 } })
})

describe('over HTTP/2', () => {
  /** A stream over a relay that stops when the test says so, as a dead peer does. */
  async function serve2(settings: http2.Settings = {}) {
    const pool = testPool({ stallTimeout: 50, pingInterval: false })
    const { app, errors } = await serveApp(sse({ pool, id: () => 'ada' }))
    const server = http2.createServer(app.callback())
    const { port } = await listen(server)
    const relay = await deadEnd(port)
    const session = http2.connect(`http://127.0.0.1:${relay.port}`, { settings })
    session.on('error', () => {})
    onTestFinished(() => session.destroy())
    const opened = nextOpen(pool)
    const request = session.request({ accept: 'text/event-stream' })
    request.on('error', () => {})
    await once(request, 'response')
    const stream = await opened
    const closes = watchCloses(pool)
    return { pool, server, relay, session, request, stream, closes, errors }
  }

  const closeOfServer = async (server: http2.Http2Server) => {
    let isClosed = false
    server.close(() => {
      isClosed = true
    })
    while (!isClosed) {
      vi.advanceTimersByTime(15_000)
      await turn()
    }
  }

  test('a stream whose window the client does not open is closed after stallTimeout (fault 68)', async () => {
    const { pool, server, request, stream, closes, errors } = await serve2()
    request.pause()
    await fill(stream, streamOf(pool, 'ada'))
    expect(await closes.next).toBe('slow')
    await pool.close()
    const closed = once(server, 'close')
    server.close()
    await closed
    expect(errors).toEqual([])
  })

  test('a connection that takes nothing does not hold up server.close() (fault 68)', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { pool, server, relay, session, stream, closes, errors } = await serve2({
      initialWindowSize: 2 ** 30,
    })
    session.setLocalWindowSize(2 ** 30)
    relay.stop()
    await fill(stream, streamOf(pool, 'ada'))
    expect(await closes.next).toBe('slow')
    await pool.close()
    await closeOfServer(server)
    expect(errors).toEqual([])
  })

  test('a client that never closes its connection does not hold up server.close() (fault 67)', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { pool, server, relay, errors } = await serve2()
    relay.stop()
    await pool.close()
    await closeOfServer(server)
    expect(errors).toEqual([])
  })
})

/** A port that leads to another one until `stop` is called; from then on nothing passes, not even a FIN. */
async function deadEnd(port: number) {
  const farSides: net.Socket[] = []
  const server = net.createServer(near => {
    const far = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    farSides.push(far)
    for (const socket of [near, far]) socket.on('error', () => {})
    near.pipe(far, { end: false })
    far.pipe(near, { end: false })
    near.on('close', () => far.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    for (const far of farSides) far.destroy()
  })
  const stop = () => {
    for (const far of farSides) far.unpipe().pause()
  }
  return { port: (server.address() as AddressInfo).port, stop }
}
