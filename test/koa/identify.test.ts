import { setImmediate as turn } from 'node:timers/promises'
import type { Context } from 'koa'
import { type Identity, type RouteOptions, sse } from 'koa-sse-pool'
import request from 'supertest'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { serveApp, watchCloses } from '../helpers/app.js'
import { connect, testPool } from '../helpers/server.js'

const UUID = /^[0-9a-f]{8}-[0-9a-f-]{27}$/

/** An app whose stream route is identified in one place. */
async function serve(identify: RouteOptions['identify'], route: RouteOptions = {}) {
  const pool = testPool()
  const app = await serveApp(sse({ pool, identify, ...route }), ctx => {
    ctx.sse.send(ctx.sse.id)
  })
  return { pool, ...app }
}

describe('option identify', () => {
  test('gives the id and the channels, which are joined before the replay', async () => {
    const { pool, origin } = await serve(
      async ctx => ({ id: `${ctx.query.user}`, channels: ['news'] }),
      { replay: 'all' },
    )
    await pool.channel('news').send('before')
    await pool.channel('sports').send('of another channel')
    const client = await connect(origin, '/?user=ada')
    await pool.send('ada', 'after')
    await client.until(({ data }) => data.includes('after'))
    expect(client.data).toEqual(['before', 'ada', 'after'])
  })

  test.each<[string, Identity, string | RegExp]>([
    ['a number as the id', { id: 42 }, '42'],
    ['zero as the id', { id: 0 }, '0'],
    ['null as the id', { id: null }, UUID],
    ['no channels', { id: 'ada', channels: undefined }, 'ada'],
    ['channels and no id', { channels: ['news'] }, UUID],
    ['an empty object', {}, UUID],
  ])('may return %s', async (_, identity, expected) => {
    const { origin } = await serve(() => identity)
    const client = await connect(origin)
    await client.until(({ data }) => data.length === 1)
    expect(client.data[0]).toMatch(expected)
  })

  test('is called once per request, for streams, HEAD and long polls alike', async () => {
    const seen: string[] = []
    const identify = (ctx: Context) => {
      seen.push(ctx.method)
      return { id: 'ada', channels: ['news'] }
    }
    const { pool, origin } = await serve(identify, { longPoll: true, replay: 'all' })
    await pool.channel('news').send('before')
    await connect(origin)
    await request(origin).head('/').set('Accept', 'text/event-stream').expect(200)
    await request(origin).get('/').set('Accept', 'application/json').expect(200)
    expect(seen).toEqual(['GET', 'HEAD', 'GET'])
  })

  test.each<[string, unknown, RegExp]>([
    ['an empty id', { id: '' }, /^The id must be 1 to 256 characters/],
    ['a repeated id', { id: ['a', 'b'] }, /^The id must be .+; got an array$/],
    ['an id with a line break', { id: 'a\nb' }, /^The id must be/],
    ['an id that is not finite', { id: Number.NaN }, /^The id must be/],
    ['an empty channel name', { id: 'ada', channels: ['news', ''] }, /^channel must not be empty$/],
    ['a reserved channel name', { channels: ['sse.x'] }, /^channel must not begin with "sse\."/],
    ['a channel name that is no string', { channels: [1] }, /^channel must be a string/],
    [
      'a channel name of 257 characters (fault 79)',
      { channels: ['x'.repeat(257)] },
      /^channel must have at most 256 characters; got a string of 257 characters$/,
    ],
    [
      '101 channels (fault 79)',
      { channels: Array.from({ length: 101 }, (_, i) => `c${i}`) },
      /^A stream may join at most 100 channels; got 101$/,
    ],
  ])('that returns %s is a 400, counted as the refusal "id"', async (_, identity, message) => {
    const { pool, origin, errors } = await serve(() => identity as Identity)
    await request(origin).get('/').expect(400, message)
    expect(pool.stats()).toMatchObject({ opened: 0, channels: 0, refused: { id: 1 } })
    expect(errors).toEqual([])
  })

  test('may return 100 channels with names of 256 characters (fault 79)', async () => {
    const channels = Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(256, 'x'))
    const { pool, origin } = await serve(() => ({ id: 'ada', channels }))
    const client = await connect(origin)
    await pool.channel(channels[99] as string).send('here')
    await client.until(({ data }) => data.includes('here'))
  })

  test.each<[unknown, string]>([
    [undefined, 'got undefined'],
    [null, 'got null'],
    ['ada', 'got "ada"'],
    [['ada'], 'got an array'],
    [Promise.resolve(7), 'got 7 (number)'],
  ])('that returns %o is a 500 that names the option and what came', async (given, came) => {
    const { pool, origin, errors } = await serve(() => given as Identity)
    await request(origin).get('/').expect(500, 'Internal Server Error')
    expect(errors).toEqual([expect.any(TypeError)])
    expect(errors[0]?.message).toBe(
      `sse(): option "identify" must return an object such as { id: 'ada', channels: ['news'] }; ${came}. To refuse the request, call ctx.throw(401)`,
    )
    expect(pool.stats().opened).toBe(0)
  })

  test('that returns channels as anything but an array is a 500', async () => {
    const { origin, errors } = await serve(() => ({ channels: 'news' }) as unknown as Identity)
    await request(origin).get('/').expect(500, 'Internal Server Error')
    expect(errors[0]?.message).toBe(
      'sse(): option "identify" must return "channels" as an array; got "news"',
    )
  })

  test.each<[string, RouteOptions['identify']]>([
    ['ctx.throw', ctx => ctx.throw(401, 'Sign in first')],
    ['ctx.throw after waiting', async ctx => ctx.throw(401, 'Sign in first')],
  ])('refuses a request by %s', async (_, identify) => {
    const { pool, origin, errors } = await serve(identify)
    await request(origin).get('/').expect(401, 'Sign in first')
    expect(pool.stats().opened).toBe(0)
    expect(errors).toEqual([])
  })

  test('that fails is a 500 whose body says nothing of the failure', async () => {
    const { origin, errors } = await serve(() => Promise.reject(new Error('password=hunter2')))
    await request(origin).get('/').expect(500, 'Internal Server Error')
    expect(errors.map(({ message }) => message)).toEqual(['password=hunter2'])
  })
})

describe('expiresAt from identify', () => {
  const START = Date.UTC(2026, 0, 1)

  /** Only the clock and timers of the package: sockets need none. */
  function fakeClock() {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'], now: START })
    onTestFinished(() => void vi.useRealTimers())
  }

  test.each<[string, Date | number]>([
    ['a Date', new Date(START + 10_000)],
    ['milliseconds', START + 10_000],
  ])('ends the stream as expired: %s', async (_, expiresAt) => {
    fakeClock()
    const { pool, origin } = await serve(() => ({ id: 'ada', expiresAt }))
    const closes = watchCloses(pool)
    const client = await connect(origin)
    await client.event('sse.cursor')
    vi.advanceTimersByTime(9999)
    expect(closes.reasons).toEqual([])
    vi.advanceTimersByTime(1)
    expect(closes.reasons).toEqual(['expired'])
    expect(await client.ended).toBe(true)
    expect(client.text).not.toContain('sse.end')
  })

  test('is asked for again by a resume, which gets the rights that the client has then', async () => {
    fakeClock()
    let rights: Identity = { id: 'ada', channels: ['news', 'staff'], expiresAt: START + 1000 }
    const { pool, origin } = await serve(() => rights)
    const client = await connect(origin)
    await pool.channel('staff').send('internal')
    await client.until(({ data }) => data.includes('internal'))
    vi.advanceTimersByTime(1000)
    await client.ended
    await pool.channel('staff').send('no more for her')
    await pool.channel('news').send('for all')
    const resume = { headers: { 'Last-Event-ID': client.lastEventId } }
    expect((await connect(origin, '/', resume)).status).toBe(401)
    rights = { id: 'ada', channels: ['news'], expiresAt: START + 60_000 }
    const back = await connect(origin, '/', resume)
    await back.until(({ data }) => data.includes('for all'))
    expect(back.data).not.toContain('no more for her')
    expect(pool.stats()).toMatchObject({ opened: 2, refused: { expired: 1 } })
  })

  test('ends a long poll that waits', async () => {
    fakeClock()
    const { pool, origin } = await serve(() => ({ id: 'ada', expiresAt: START + 1000 }), {
      longPoll: true,
    })
    const cursor = await pool.broadcast('before')
    const headers = { Accept: 'application/json', 'Last-Event-ID': cursor }
    const answer = fetch(origin, { headers })
    while (pool.stats().polls === 0) await turn()
    vi.advanceTimersByTime(1000)
    expect(await (await answer).json()).toEqual({ cursor, events: [] })
  })

  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['Infinity', Number.POSITIVE_INFINITY],
  ])('never ends the stream if it is %s', async (_, expiresAt) => {
    const { origin } = await serve(() => ({ id: 'ada', expiresAt }) as Identity)
    expect((await connect(origin)).status).toBe(200)
  })

  test.each<[unknown, string]>([
    [1_764_118_000, 'got 1764118000 (number). If it is in seconds, multiply it by 1000'],
    [new Date('nonsense'), 'got '],
    ['2030-01-01', 'got "2030-01-01"'],
    [0, 'got 0 (number)'],
  ])('is a 500 that names it if it is %s', async (expiresAt, message) => {
    const { pool, origin, errors } = await serve(() => ({ id: 'ada', expiresAt }) as Identity)
    expect((await connect(origin)).status).toBe(500)
    expect(errors[0]?.message).toContain(
      `"expiresAt" from option "identify" must be a Date or milliseconds since the epoch; ${message}`,
    )
    expect(pool.stats().opened).toBe(0)
  })
})
