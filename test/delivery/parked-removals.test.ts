/**
 * Removals that reach a process while a client is parked. Those from before it came are about an earlier visit
 * and must not end it.
 */
import type { RouteOptions } from 'koa-sse-pool'
import { expect, test } from 'vitest'
import { deferred, nextOpen } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const entry = (id: string, target = '*', frame = `data: ${id}\n\n`) => ({
  id,
  target,
  nonce: id,
  frame,
})

const gap = (reason: string) => `sse.gap {"reason":"${reason}"}`

/** A client that is parked until `answer()`: the log was asked about its cursor. */
async function park(log: FakeLog, cursor: string, options: RouteOptions = {}) {
  const pool = testPool({ log, window: { events: 8 } })
  const served = await serveStreams({ pool, ...options })
  const answered = deferred()
  log.beforeBarrier = () => answered.promise
  const opened = nextOpen(pool)
  const client = await connect(served.origin, '/?id=ada', { headers: { 'Last-Event-ID': cursor } })
  const stream = await opened
  /** What the client gets until `live`, or until its end. */
  const answer = async () => {
    answered.resolve()
    await expect.poll(() => pool.stats().parked).toBe(0)
    await pool.broadcast('live')
    await Promise.race([client.ended, client.until(({ data }) => data.includes('live'))])
    const told = client.events.filter(({ event }) => event !== 'sse.cursor')
    return told.map(({ event = 'message', data }) => `${event} ${data}`)
  }
  return { pool, client, stream, answer }
}

test('a removal from before an unknown client does not end it, though the window is refilled', async () => {
  const log = new FakeLog()
  log.stored = [entry('1'), entry('2', '-ada'), entry('3')]
  const { answer } = await park(log, 'x-77')
  log.reset('trimmed')
  expect(await answer()).toEqual([gap('unknown'), 'message live'])
})

test('a removal in a log that replaces the old one does not end a client of the old one', async () => {
  const log = new FakeLog()
  log.stored = [entry('1')]
  const { answer } = await park(log, '77')
  log.epoch = 'b'
  for (const stored of [[entry('b-1'), entry('b-2', '-ada')], [entry('b-2', '-ada')]]) {
    log.stored = stored
    log.reset(stored.length === 2 ? 'replaced' : 'trimmed')
  }
  expect(await answer()).toEqual([gap('unknown'), 'message live'])
})

test('a removal since the client came ends it, though the window is refilled', async () => {
  const log = new FakeLog()
  log.stored = [entry('1')]
  const { answer } = await park(log, 'x-77')
  log.stored.push(entry('2', '-ada', 'data: bye\n\n'), entry('3'))
  log.reset('trimmed')
  expect(await answer()).toEqual(['close bye'])
})

test('a removal since the client came ends it, though the refilled window has lost its place', async () => {
  const log = new FakeLog()
  log.stored = [entry('1')]
  const { answer } = await park(log, 'x-77')
  log.stored = [entry('2', '-ada', 'data: bye\n\n'), entry('3')]
  log.reset('trimmed')
  expect(await answer()).toEqual(['close bye'])
})

test('a removal inside the history that a client resumes does not end it when it lags later', async () => {
  const log = new FakeLog()
  log.stored = [entry('1')]
  const { answer, client, stream, pool } = await park(log, '2.4')
  for (const [id, target] of [
    ['2', '*'],
    ['3', '-ada'],
    ['4', '*'],
  ] as const) {
    log.stored.push(entry(id, target))
  }
  log.deliver()
  expect(await answer()).toEqual(['message 4', 'message live'])
  // More than the socket takes, so that entries leave the window before it gets to them.
  client.response.pause()
  const closed = new Promise(resolve => pool.once('close', (_, reason) => resolve(reason)))
  while (stream.send('x'.repeat(2 ** 19))) await new Promise(setImmediate)
  for (let i = 0; i < 9; i++) await pool.broadcast(`${i}`)
  client.response.resume()
  const missed = new Promise(resolve => pool.once('gap', (_, reason) => resolve(reason)))
  expect(await Promise.race([closed, missed])).toBe('lagged')
})

test('a removal inside a history whose place was trimmed does not end the client', async () => {
  const log = new FakeLog()
  log.stored = [entry('2')]
  const { answer } = await park(log, '1.4')
  log.stored.push(entry('3', '-ada'), entry('4'))
  log.deliver()
  expect(await answer()).toEqual([gap('trimmed'), 'message live'])
})

test.each([
  ['a removal that a client has read past does not end it', '2', [gap('trimmed'), 'message live']],
  ['a removal inside its history does not end it', '1.3', [gap('trimmed'), 'message live']],
  ['a removal beyond the cursor of a client ends it', '1', ['close bye']],
])('%s, though both are evicted while it is parked', async (_, cursor, expected) => {
  const log = new FakeLog()
  log.stored = [entry('0')]
  const { answer } = await park(log, cursor)
  log.stored.push(entry('1'), entry('2', '-ada', 'data: bye\n\n'))
  for (let id = 3; id < 12; id++) log.stored.push(entry(`${id}`))
  log.deliver()
  expect(await answer()).toEqual(expected)
})
