import { setImmediate as turn } from 'node:timers/promises'
import { type ClientPool, type Entry, type EventLog, type LogSink, SseError } from 'koa-sse-pool'
import { redisLog } from 'koa-sse-pool/redis'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { Messages } from '../../src/log/messages.js'
import { Claims } from '../../src/pool/claims.js'
import { deferred } from '../helpers/app.js'
import { drivers, RedisServer } from '../helpers/redis.js'
import { testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

/** A number of pools on one log, each in the role of a process. */
function processes(count: number) {
  const log = sharedLog()
  const pools = Array.from({ length: count }, () => {
    const pool = testPool({ log: log.open() })
    pool.on('error', () => {})
    return pool
  })
  const claims = () => log.entries.filter(({ frame }) => frame.includes('"claim"'))
  return { log, pools: pools as [ClientPool, ClientPool, ClientPool], claims }
}

function useFakeClock() {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  onTestFinished(() => void vi.useRealTimers())
}

const UNCERTAIN = { name: 'SseError', code: 'ERR_SSE_LOG_UNCERTAIN' }

/** Claims of a single process, with any number of names. */
function aloneClaims() {
  let nonces = 0
  return new Claims(new Messages(undefined, () => ''), () => `${++nonces}`)
}

describe('with the memory log', () => {
  test('the first caller gets the name and the others do not', async () => {
    const pool = testPool()
    const answers = Array.from({ length: 5 }, () => pool.claim('job', { ttl: 1000 }))
    expect(await Promise.all(answers)).toEqual([true, false, false, false, false])
    expect(await pool.claim('__proto__', { ttl: 1000 })).toBe(true)
  })

  test('a name can be claimed again when its time is over, and no earlier', async () => {
    useFakeClock()
    const pool = testPool()
    await pool.claim('job', { ttl: 1000 })
    vi.advanceTimersByTime(999)
    expect(await pool.claim('job', { ttl: 1000 })).toBe(false)
    vi.advanceTimersByTime(1)
    expect(await pool.claim('job', { ttl: 1000 })).toBe(true)
    expect(await pool.claim('job', { ttl: 1000 })).toBe(false)
  })
})

describe('on several processes', () => {
  test('exactly one of all callers gets the name', async () => {
    const { pools, log } = processes(3)
    const answers = Array.from({ length: 30 }, (_, i) =>
      pools[i % 3]?.claim(`job ${i % 5}`, { ttl: 1000 }),
    )
    const verdicts = await Promise.all(answers)
    for (let job = 0; job < 5; job++) {
      expect(verdicts.filter((won, i) => won && i % 5 === job)).toHaveLength(1)
    }
    expect(log.entries.every(({ target }) => target === '?')).toBe(true)
  })

  test('the order of the log decides, not which process asked or heard first', async () => {
    const log = sharedLog()
    const held: Omit<Entry, 'id'>[] = []
    const engine = log.open()
    const late: EventLog = {
      ...engine,
      async append(entry) {
        held.push(entry)
        return ''
      },
    }
    const [first, second] = [testPool({ log: late }), testPool({ log: log.open() })]
    await turn()
    const [slow, fast] = [first.claim('job', { ttl: 1000 }), second.claim('job', { ttl: 1000 })]
    expect(await fast).toBe(true)
    for (const entry of held) await engine.append(entry)
    expect(await slow).toBe(false)
  })

  test('readers that lag behind each other reach the same verdict', async () => {
    useFakeClock()
    const { pools, log } = processes(3)
    const [lagging] = [...log.sinks] as [LogSink]
    const missed: Entry[] = []
    const append = vi.spyOn(lagging, 'append')
    append.mockImplementation(entries => void missed.push(...entries))
    expect(await pools[1].claim('job', { ttl: 1000 })).toBe(true)
    vi.advanceTimersByTime(600)
    append.mockRestore()
    lagging.append(missed)
    // By the reader's clock the claim would last for another 600 ms.
    vi.advanceTimersByTime(400)
    expect(await pools[2].claim('job', { ttl: 1000 })).toBe(true)
    vi.advanceTimersByTime(300)
    expect(await pools[0].claim('job', { ttl: 1000 })).toBe(false)
  })

  test('callers that come too late do not prolong the claim', async () => {
    useFakeClock()
    const { pools } = processes(3)
    await pools[0].claim('job', { ttl: 1000 })
    vi.advanceTimersByTime(900)
    for (const pool of pools) expect(await pool.claim('job', { ttl: 1000 })).toBe(false)
    vi.advanceTimersByTime(100)
    const answers = await Promise.all(pools.map(pool => pool.claim('job', { ttl: 1000 })))
    expect(answers.filter(Boolean)).toHaveLength(1)
  })

  test('a process that has just started knows what is claimed', async () => {
    useFakeClock()
    const { log, pools } = processes(1)
    await pools[0].claim('job', { ttl: 1000 })
    await pools[0].close()
    const later = testPool({ log: log.open() })
    expect(await later.claim('job', { ttl: 1000 })).toBe(false)
    vi.advanceTimersByTime(1000)
    const latest = testPool({ log: log.open() })
    expect(await latest.claim('job', { ttl: 1000 })).toBe(true)
    expect(await later.claim('job', { ttl: 1000 })).toBe(false)
  })

  test('a claim that was made before the log filled the window is decided by the log', async () => {
    const log = sharedLog()
    const engine = log.open()
    const boot = deferred()
    const slow: EventLog = {
      ...engine,
      open: sink => boot.promise.then(() => engine.open(sink)),
    }
    const pool = testPool({ log: slow })
    const [winner] = [testPool({ log: log.open() })]
    await winner.claim('taken', { ttl: 1000 })
    const answers = Promise.all([
      pool.claim('taken', { ttl: 1000 }),
      pool.claim('free', { ttl: 1000 }),
    ])
    await turn()
    boot.resolve()
    expect(await answers).toEqual([false, true])
  })

  test('a claim is as old as its call, however long it takes to come back', async () => {
    useFakeClock()
    const { pools, log } = processes(2)
    log.state.isDeaf = true
    const before = log.entries.length
    const claims = pools.map(pool => pool.claim('job', { ttl: 1000 }))
    await turn()
    vi.advanceTimersByTime(1500)
    for (const sink of log.sinks) sink.append(log.entries.slice(before))
    expect(await Promise.all(claims)).toEqual([true, false])
  })

  test('a caller that tries again and again adds nothing to the log', async () => {
    const { log, pools, claims } = processes(2)
    log.state.isDeaf = true
    const first = Array.from({ length: 100 }, () => pools[0].claim('job', { ttl: 1000 }))
    await turn()
    log.state.isDeaf = false
    for (const sink of log.sinks) sink.append(log.entries.slice(-1))
    expect((await Promise.all(first)).filter(Boolean)).toHaveLength(1)
    expect(claims()).toHaveLength(1)
    for (const pool of pools) await pool.claim('job', { ttl: 1000 })
    expect(claims()).toHaveLength(1)
  })

  test('a claim is no event and takes no place in the window', async () => {
    const { pools } = processes(2)
    await pools[0].claim('job', { ttl: 1000 })
    for (const pool of pools) {
      expect(pool.stats()).toMatchObject({ entries: 0, window: { events: 0 } })
    }
  })

  test.each([
    ...['null', '[]', '1', '{"name":"job"}', '{"name":1,"by":"x","at":1,"until":9e15}'],
    '{"name":"job","by":"x","at":"1","until":9e15}',
    '{"name":"job","by":"x","at":1,"until":1e999}',
  ])('a message that is no claim takes no name: %s', async body => {
    const { log, pools } = processes(1)
    const frame = `{"topic":"claim","body":${body}}`
    await log.open().append({ nonce: 'n', target: '?', frame })
    expect(await pools[0].claim('job', { ttl: 1000 })).toBe(true)
  })
})

test('on a real Redis exactly one process gets the name, and one that starts later does not', async () => {
  const server = await RedisServer.start()
  const { client, end } = drivers.ioredis(server.url)
  const start = () => testPool({ log: redisLog({ client, key: 'log' }) })
  const pools = [start(), start(), start()]
  onTestFinished(async () => {
    await Promise.all(pools.map(pool => pool.close()))
    await end()
    await server.stop()
  })
  for (let round = 0; round < 50; round++) {
    const claims = pools.map(pool => pool.claim(`job ${round}`, { ttl: 60_000 }))
    expect((await Promise.all(claims)).filter(Boolean)).toHaveLength(1)
  }
  const later = start()
  pools.push(later)
  for (let round = 0; round < 50; round++) {
    expect(await later.claim(`job ${round}`, { ttl: 60_000 })).toBe(false)
  }
})

describe('a claim whose outcome cannot be known', () => {
  test('rejects while the log is down, also for callers that asked before', async () => {
    const { log, pools } = processes(2)
    const errors: Error[] = []
    pools[0].on('error', error => errors.push(error))
    log.state.isDown = true
    const claims = [1, 2].map(() => pools[0].claim('job', { ttl: 1000 }))
    for (const claim of claims)
      await expect(claim).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    expect(errors).toHaveLength(2)
    log.state.isDown = false
    expect(await pools[0].claim('job', { ttl: 1000 })).toBe(true)
  })

  test('rejects if it does not come back', async () => {
    useFakeClock()
    const { log, pools } = processes(2)
    log.state.isDeaf = true
    const claim = pools[0].claim('job', { ttl: 60_000 })
    vi.advanceTimersByTime(5000)
    await expect(claim).rejects.toMatchObject(UNCERTAIN)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('rejects if its append does, even if it has come back', async () => {
    const log = sharedLog()
    const engine = log.open()
    const append: EventLog['append'] = async entry => {
      await engine.append(entry)
      throw new SseError('ERR_SSE_LOG_UNCERTAIN', 'The reply was lost')
    }
    const pool = testPool({ log: { ...engine, append } })
    pool.on('error', () => {})
    await expect(pool.claim('job', { ttl: 1000 })).rejects.toMatchObject(UNCERTAIN)
    expect(await testPool({ log: log.open() }).claim('job', { ttl: 1000 })).toBe(false)
  })

  test('rejects after an interruption of the log, as an earlier claim may have been missed', async () => {
    const { log, pools } = processes(2)
    log.state.isDeaf = true
    const claim = pools[0].claim('job', { ttl: 1000 })
    await turn()
    const last = log.entries.slice(-1)
    for (const sink of log.sinks) sink.reset(last, 'trimmed')
    await expect(claim).rejects.toMatchObject(UNCERTAIN)
    // The claim was stored nevertheless, so the other processes know of it.
    log.state.isDeaf = false
    expect(await pools[1].claim('job', { ttl: 1000 })).toBe(false)
  })

  test('rejects when the pool closes, and so do later claims', async () => {
    const { log, pools } = processes(1)
    log.state.isDeaf = true
    const claim = pools[0].claim('job', { ttl: 1000 })
    const closed = pools[0].close()
    await expect(claim).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
    await closed
    const late = pools[0].claim('job', { ttl: 1000 })
    await expect(late).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
  })
})

describe('the memory of claims', () => {
  test('forgets names some time after their end', async () => {
    useFakeClock()
    const claims = aloneClaims()
    for (let i = 0; i < 1000; i++) await claims.claim(`old ${i}`, 1000)
    vi.advanceTimersByTime(61_000)
    for (let i = 0; i < 100; i++) await claims.claim(`new ${i}`, 1000)
    expect(claims.size).toBeLessThanOrEqual(100)
  })

  test('is bounded in a flood and gives no name a second time', async () => {
    useFakeClock()
    const claims = aloneClaims()
    const flood = (count: number) => {
      for (let i = 0; i < count; i++) {
        const at = Date.now()
        claims.receive({ name: `flood ${i}`, by: `other ${i}`, at, until: at + 1000 })
      }
    }
    expect(await claims.claim('mine', 1000)).toBe(true)
    flood(200_000)
    expect(claims.size).toBeLessThanOrEqual(100_000)
    await expect(claims.claim('mine', 1000)).rejects.toMatchObject(UNCERTAIN)
    await expect(claims.claim('another', 1000)).rejects.toMatchObject(UNCERTAIN)
    expect(await claims.claim('flood 199999', 1000)).toBe(false)
    vi.advanceTimersByTime(1000)
    expect(await claims.claim('another', 1000)).toBe(true)
  })
})

test('while names are in doubt, nothing is added to the log', async () => {
  const append = vi.fn(async () => '')
  const claims = new Claims(new Messages({ append }, () => ''), () => 'mine')
  const at = Date.now()
  for (let i = 0; i < 100_001; i++) {
    claims.receive({ name: `flood ${i}`, by: `other ${i}`, at, until: at + 60_000 })
  }
  await expect(claims.claim('mine', 1000)).rejects.toMatchObject(UNCERTAIN)
  expect(append).not.toHaveBeenCalled()
})

describe('a TypeError refuses', () => {
  test.each([
    [undefined, { ttl: 1 }, 'name must be a string of 1 to 256 characters; got undefined'],
    ['', { ttl: 1 }, 'got ""'],
    ['a'.repeat(257), { ttl: 1 }, 'got a string of 257 characters'],
    ['job', undefined, 'option "ttl" must be milliseconds'],
    ['job', {}, 'got undefined'],
    ['job', { ttl: '30' }, 'got "30"'],
    ['job', { ttl: 0 }, 'got 0'],
    ['job', { ttl: 2 ** 31 }, 'from 1 to 2147483647'],
    ['job', { tll: 1 }, 'did you mean "ttl"?'],
  ])('claim(%j, %j)', (name, options, message) => {
    const pool = testPool()
    const claim = pool.claim.bind(pool) as (...args: unknown[]) => unknown
    expect(() => claim(name, options)).toThrow(TypeError)
    expect(() => claim(name, options)).toThrow(message)
  })
})
