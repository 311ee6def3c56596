/** Clients that leave, or join a channel, before the log has opened or answered. */
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { hubOf } from '../../src/pool/hub.js'
import { deferred } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { collect } from '../helpers/gc.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

describe('a client that left', () => {
  test('before the log opened is forgotten', async () => {
    const log = new FakeLog()
    log.boots = false
    const pool = testPool({ log })
    const subscriptions = Array.from({ length: 10 }, () => {
      const subscription = hubOf(pool).subscribe({ id: 'ada' }, '', 'missed')
      subscription.close()
      return new WeakRef(subscription)
    })
    // The target of a weak reference that was read stays alive until the end of the turn.
    await turn()
    collect()
    expect(subscriptions.filter(subscription => subscription.deref() !== undefined)).toEqual([])
  })

  test('while the log failed to answer is not asked about again', async () => {
    const log = new FakeLog()
    const pool = testPool({ log })
    pool.on('error', () => {})
    const { origin } = await serveStreams({ pool })
    const answer = deferred()
    log.beforeBarrier = () => answer.promise
    const client = await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': '77' } })
    const closed = new Promise(resolve => pool.once('close', resolve))
    client.close()
    await closed
    answer.reject(new Error('no answer'))
    await turn()
    log.sink.state(true)
    await turn()
    expect(log.barriers).toBe(1)
  })
})

describe('a client that joins a channel before the log opened', () => {
  test('gets the channel from its tail only, as at any other time', async () => {
    const log = new FakeLog()
    log.boots = false
    const entry = (id: string, target: string) => ({
      id,
      target,
      nonce: id,
      frame: `data: ${id}\n\n`,
    })
    log.stored = [entry('1', '*'), entry('2', '#news'), entry('3', '*')]
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool }, ctx => {
      ctx.sse.join('news')
      ctx.sse.send('joined')
    })
    const client = await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': '1' } })
    await client.until(({ data }) => data.includes('joined'))
    log.boot()
    await pool.channel('news').send('live')
    await client.until(({ data }) => data.includes('live'))
    expect(client.data).toEqual(['joined', '3', 'live'])
  })
})

test('a stream with resume: false that came before the log opened counts as one that missed events, whatever id it brings', async () => {
  const log = new FakeLog()
  log.boots = false
  const pool = testPool({ log })
  const gaps: string[] = []
  pool.on('gap', ({ id }, reason) => gaps.push(`${id} ${reason}`))
  const { origin } = await serveStreams({ pool, resume: false })
  await connect(origin, '/?id=ada')
  await connect(origin, '/?id=bob', { headers: { 'Last-Event-ID': 'my-7' } })
  log.store('meanwhile')
  log.boot()
  expect(gaps).toEqual(['ada unknown', 'bob unknown'])
})
