/** All clients reconnect at once, as after a deploy. What is counted here is work, not time. */
import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { STREAMS_PER_TURN } from '../../src/pool/turns.js'
import { reading } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { rawConnection, serveStreams, testPool } from '../helpers/server.js'

const CLIENTS = 1000
/** Fewer than the server's backlog holds: the kernel repeats what it drops only after a second. */
const CONNECTS = 250

test('1,000 reconnects at once ask nothing of the engine, as the window has their cursors', {
  timeout: 60_000,
}, async () => {
  const log = new FakeLog()
  for (const data of ['1', '2', '3']) log.store(data)
  let appends = 0
  log.beforeAppend = log.beforeMessage = async () => {
    appends += 1
  }
  const pool = testPool({ log })
  const { port } = await serveStreams({ pool })
  const sockets = await connectAll(port)
  const before = { appends, barriers: log.barriers }
  const texts = await Promise.all(sockets.map((socket, id) => resume(socket, `${id}`)))
  expect(texts.filter(text => /data: 2\n.*data: 3\n/s.test(text))).toHaveLength(CLIENTS)
  expect({ appends, barriers: log.barriers }).toEqual(before)
  expect(pool.stats()).toMatchObject({ streams: CLIENTS, replays: CLIENTS, gaps: 0 })
})

test('1,000 reconnects whose cursors the window lacks ask the engine a few times, and not once each', {
  timeout: 60_000,
}, async () => {
  const log = new FakeLog()
  log.store('1')
  const pool = testPool({ log })
  const { port } = await serveStreams({ pool })
  const sockets = await connectAll(port)
  // The process is behind: the log has what they wait for.
  for (const data of ['2', '3']) log.store(data)
  const resumed = sockets.map((socket, id) => resume(socket, `${id}`, '2'))
  await expect.poll(() => pool.stats().parked, { timeout: 30_000 }).toBe(CLIENTS)
  log.deliver()
  await Promise.all(resumed)
  expect(log.barriers).toBeLessThanOrEqual(2)
  expect(pool.stats()).toMatchObject({ parked: 0, replays: CLIENTS, gaps: 0 })
})

test('a storm of reconnects is let in some at a time, so that other work has its turn (fault 50)', {
  timeout: 60_000,
}, async () => {
  const pool = testPool()
  const { port } = await serveStreams({ pool })
  const id = await pool.broadcast('before')
  await pool.broadcast('3')
  const sockets = await connectAll(port)
  let opened = 0
  let most = 0
  let waiting = 0
  pool.on('open', () => {
    opened += 1
    most = Math.max(most, opened)
    waiting = Math.max(waiting, pool.stats().waiting)
  })
  // Other work: it is done once in each turn of the event loop.
  let isOver = false
  const turn = () => {
    opened = 0
    if (!isOver) setImmediate(turn)
  }
  turn()
  await Promise.all(sockets.map((socket, n) => resume(socket, `${n}`, id)))
  isOver = true
  expect(most).toBeLessThanOrEqual(STREAMS_PER_TURN)
  // Otherwise they came one after the other, and the test says nothing.
  expect(waiting).toBeGreaterThan(0)
  expect(pool.stats()).toMatchObject({ streams: CLIENTS, replays: CLIENTS, gaps: 0, waiting: 0 })
})

async function connectAll(port: number): Promise<Socket[]> {
  const sockets: Socket[] = []
  while (sockets.length < CLIENTS) {
    const connecting = Array.from({ length: CONNECTS }, () => rawConnection(port))
    sockets.push(...(await Promise.all(connecting)))
  }
  return sockets
}

/** What a client that comes back with a cursor receives, up to the newest event. */
function resume(socket: Socket, id: string, cursor = '1'): Promise<string> {
  socket.write(`GET /?id=${id} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: ${cursor}\r\n\r\n`)
  const received = reading(socket)
  return received.until('data: 3\n').then(() => received.text)
}
