import { setImmediate as turn } from 'node:timers/promises'
import { type ClientPool, type EventLog, type LogSink, SseError } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

/** A number of pools on one log, each with a server, in the role of processes. */
async function processes(count: number) {
  const log = sharedLog()
  const all = await Promise.all(
    Array.from({ length: count }, async () => {
      const pool = testPool({ log: log.open() })
      return { pool, ...(await serveStreams({ pool })) }
    }),
  )
  return { log, all, pools: all.map(({ pool }) => pool) as [ClientPool, ...ClientPool[]] }
}

function useFakeTimers() {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
}

/** The answer to a question after its time limit of one second has passed. */
async function afterTimeLimit<Value>(answer: Promise<Value>): Promise<Value> {
  await turn()
  vi.advanceTimersByTime(1000)
  return answer
}

describe('on one process with the memory log', () => {
  test('count and locate answer at once', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=bob')
    expect(await pool.count()).toEqual({ processes: 1, clients: 2, streams: 3 })
    expect(await pool.locate('ada')).toEqual([{ process: expect.any(String), streams: 2 }])
    expect(await pool.locate('nobody')).toEqual([])
    expect(() => pool.locate('')).toThrow(TypeError)
  })
})

describe('on several processes', () => {
  test('count adds up all of them', async () => {
    useFakeTimers()
    const { all, pools } = await processes(3)
    await connect(all[0]?.origin as string, '/?id=ada')
    await connect(all[1]?.origin as string, '/?id=bob')
    await connect(all[2]?.origin as string, '/?id=bob')
    expect(await afterTimeLimit(pools[0].count())).toEqual({ processes: 3, clients: 3, streams: 3 })
  })

  test('a channel counts its streams on all of them, and a client with two streams on one of them once', async () => {
    useFakeTimers()
    const { all, pools } = await processes(3)
    await connect(all[0]?.origin as string, '/?id=ada')
    await connect(all[1]?.origin as string, '/?id=bob')
    await connect(all[1]?.origin as string, '/?id=bob')
    await connect(all[1]?.origin as string, '/?id=eve')
    for (const pool of pools) {
      for (const id of ['ada', 'bob']) {
        for (const stream of pool.get(id)?.streams ?? []) stream.join('news')
      }
    }
    expect(await afterTimeLimit(pools[0].channel('news').count())).toEqual({
      ...{ processes: 3, clients: 2, streams: 3 },
    })
    expect(await pools[0].channel('sport').count()).toMatchObject({ clients: 0, streams: 0 })
  })

  test('locate finds a client wherever it is connected', async () => {
    useFakeTimers()
    const { all, pools } = await processes(3)
    await connect(all[1]?.origin as string, '/?id=bob')
    await connect(all[2]?.origin as string, '/?id=bob')
    await connect(all[2]?.origin as string, '/?id=bob')
    const found = await afterTimeLimit(pools[0].locate('bob'))
    expect(found.map(({ streams }) => streams).sort()).toEqual([1, 2])
    expect(found[0]?.process).toMatch(/.+:\d+$/)
  })

  test('only the first question waits for processes that may exist', async () => {
    useFakeTimers()
    const { pools } = await processes(3)
    await afterTimeLimit(pools[0].count())
    // The timers are fake, so a second wait would never end.
    expect((await pools[0].count()).processes).toBe(3)
  })

  test('a process that starts later is waited for without a timeout', async () => {
    useFakeTimers()
    const { log, pools } = await processes(2)
    await afterTimeLimit(pools[0].count())
    testPool({ log: log.open() })
    await turn()
    expect((await pools[0].count()).processes).toBe(3)
  })

  test('a process that closes is not waited for', async () => {
    useFakeTimers()
    const { pools } = await processes(3)
    await afterTimeLimit(pools[0].count())
    await pools[1]?.close()
    expect((await pools[0].count()).processes).toBe(2)
  })

  test('a process that answered while its streams were being ended is not waited for either', async () => {
    useFakeTimers()
    const { all, pools } = await processes(3)
    await afterTimeLimit(pools[0].count())
    await connect(all[1]?.origin as string, '/?id=ada')
    const closed = pools[1]?.close({ spread: 50 })
    expect((await pools[0].count()).processes).toBe(3)
    while (pools[1]?.connections) {
      await turn()
      vi.advanceTimersByTime(20)
    }
    await closed
    expect((await pools[0].count()).processes).toBe(2)
  })

  /** A process whose messages are stored only after a promise has resolved. */
  function later(engine: EventLog, wait: () => Promise<unknown>): ClientPool {
    const append: EventLog['append'] = async entry => {
      await wait()
      return engine.append(entry)
    }
    return testPool({ log: { ...engine, append } })
  }

  test('the time limit starts when the log has stored the question, or all processes would count as silent', async () => {
    useFakeTimers()
    const { log } = await processes(0)
    later(log.open(), () => turn())
    const stored = deferred()
    const asked = later(log.open(), () => stored.promise).count()
    await turn()
    vi.advanceTimersByTime(1000)
    stored.resolve()
    const told = () => log.entries.some(({ frame }) => frame.includes('answer'))
    while (!told()) await turn()
    expect((await afterTimeLimit(asked)).processes).toBe(2)
  })

  test('a process that came while the log was interrupted is waited for', async () => {
    useFakeTimers()
    const { log, pools } = await processes(1)
    await afterTimeLimit(pools[0].count())
    const [sink] = [...log.sinks] as [LogSink]
    log.sinks.delete(sink)
    later(log.open(), () => turn())
    while (log.entries.length < 3) await turn()
    log.sinks.add(sink)
    sink.reset(log.entries, 'trimmed')
    const asked = pools[0].count()
    while (log.entries.length < 5) await turn()
    expect((await afterTimeLimit(asked)).processes).toBe(2)
  })

  test('a process that died silently costs one question a second, and later ones nothing', async () => {
    useFakeTimers()
    const { log, pools } = await processes(3)
    await afterTimeLimit(pools[0].count())
    log.sinks.delete([...log.sinks][2] as LogSink)
    expect((await afterTimeLimit(pools[0].count())).processes).toBe(2)
    expect((await pools[0].count()).processes).toBe(2)
  })

  test('messages between processes take no place in the window and are no events', async () => {
    useFakeTimers()
    const { log, all, pools } = await processes(2)
    const client = await connect(all[1]?.origin as string, '/?id=ada')
    const cursor = await pools[0].broadcast('one')
    await client.until(({ data }) => data.includes('one'))
    await afterTimeLimit(pools[0].count())
    expect(log.entries.length).toBeGreaterThan(4)
    for (const pool of pools) {
      expect(pool.stats()).toMatchObject({ entries: 1, window: { events: 1 } })
    }
    const back = await connect(all[0]?.origin as string, '/?id=ada', {
      headers: { 'Last-Event-ID': cursor },
    })
    await pools[1]?.broadcast('two')
    await back.until(({ data }) => data.includes('two'))
    expect(back.data).toEqual(['two'])
  })

  test('a cursor that is not in the window is decided even if the log ends with messages between processes', async () => {
    useFakeTimers()
    const { all, pools } = await processes(2)
    await pools[0].broadcast('one')
    await afterTimeLimit(pools[0].count())
    const headers = { 'Last-Event-ID': 'of-another-log' }
    const client = await connect(all[1]?.origin as string, '/?id=ada', { headers })
    expect(JSON.parse((await client.event('sse.gap')).data)).toEqual({ reason: 'unknown' })
  })

  test('a message that cannot be read is ignored', async () => {
    const { log, pools } = await processes(2)
    const tell = log.open()
    const presence = ['null', '1', '{}', '{"from":"x","says":"something new"}']
    const bodies = presence.map(body => `{"topic":"presence","body":${body}}`)
    for (const frame of ['{"topic":"presence"}', ...bodies]) {
      await tell.append({ nonce: 'n', target: '?', frame })
    }
    expect(pools[0].stats()).toMatchObject({ entries: 0, log: 'up' })
  })

  test('a question rejects when the log is down', async () => {
    const { log, pools } = await processes(2)
    pools[0].on('error', () => {})
    log.state.isDown = true
    await expect(pools[0].count()).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  })
})

test('a pool is ready while its log is in reach and the pool is not closing', async () => {
  const { log, pools } = await processes(1)
  const [pool] = pools
  expect(pool.isReady).toBe(true)
  for (const sink of log.sinks) sink.state(false)
  expect(pool.isReady).toBe(false)
  for (const sink of log.sinks) sink.state(true)
  expect(pool.isReady).toBe(true)
  void pool.close()
  expect(pool.isReady).toBe(false)
})

test('a send whose outcome is unknown can be repeated as the same entry', async () => {
  const log = sharedLog()
  const engine = log.open()
  const nonces: string[] = []
  let failures = 1
  const append: EventLog['append'] = async entry => {
    if (entry.target === '?') return ''
    nonces.push(entry.nonce)
    if (failures-- > 0) throw new SseError('ERR_SSE_LOG_UNCERTAIN', 'The reply was lost')
    return engine.append(entry)
  }
  const pool = testPool({ log: { ...engine, append } })
  pool.on('error', () => {})
  const error = await pool.send('ada', 'hello').catch((error: SseError) => error)
  expect(error).toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
  expect(await (error as SseError).retry?.()).toBe('1')
  expect(nonces[1]).toBe(nonces[0])
})
