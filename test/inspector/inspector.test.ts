/** The inspector over HTTP: who may ask, what is answered, and what the page may do. */
import http from 'node:http'
import Router from '@koa/router'
import Koa from 'koa'
import mount from 'koa-mount'
import { type ClientPool, type EventLog, type RouteOptions, sse } from 'koa-sse-pool'
import { type InspectorOptions, inspector } from 'koa-sse-pool/inspector'
import { describe, expect, test } from 'vitest'
import { connect, listen, TestClient, testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

const SAME = { 'Sec-Fetch-Site': 'same-origin' }
const ALL: InspectorOptions = {
  authorize: () => true,
  data: true,
  actions: ['send', 'remove', 'drain'],
}

// biome-ignore lint/suspicious/noExplicitAny: the tests say what they expect in it
type Json = any

/** An app with streams at `/events?id=&channels=` and the inspector at `/inspector`. */
async function serve(
  pool: ClientPool,
  options: InspectorOptions = ALL,
  route: Partial<RouteOptions> = {},
) {
  const app = new Koa()
  app.silent = true
  const router = new Router()
  router.all('/inspector{/*path}', inspector(pool, options))
  router.get(
    '/events',
    sse({
      pool,
      id: ctx => ctx.query.id as string,
      channels: ctx =>
        String(ctx.query.channels ?? '')
          .split(',')
          .filter(Boolean),
      ...route,
    }),
  )
  app.use(router.routes())
  const { origin } = await listen(http.createServer(app.callback()))
  const get = (path: string, headers: Record<string, string> = {}) =>
    fetch(`${origin}/inspector/${path}`, { headers, redirect: 'manual' })
  const list = async (path: string) => (await get(path)).json() as Promise<Json>
  const post = (path: string, body: unknown, headers: Record<string, string> = SAME) =>
    fetch(`${origin}/inspector/${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  return { origin, get, list, post }
}

/** Two processes that share a log, each with an app. */
async function serveTwo(options = ALL) {
  const shared = sharedLog()
  const pools = [testPool({ log: shared.open() }), testPool({ log: shared.open() })] as const
  for (const pool of pools) pool.on('error', () => {})
  const sites = [await serve(pools[0], options), await serve(pools[1], options)] as const
  return { shared, pools, sites }
}

const idsOf = ({ rows }: { rows: { id: string }[] }) => rows.map(({ id }) => id)

describe('inspector()', () => {
  test('throws without authorize, and says why it is needed', () => {
    const pool = testPool()
    const without = inspector as (pool: unknown, options?: unknown) => unknown
    expect(() => without(pool)).toThrow(
      new TypeError(
        'inspector(): option "authorize" must be a function such as ctx => ctx.state.user?.isAdmin === true, because the page shows the ids of all clients; got undefined',
      ),
    )
    expect(() => without(pool, {})).toThrow('option "authorize" must be a function')
    expect(() => without(pool, { authorize: true })).toThrow('got true (boolean)')
  })

  test('names other wrong arguments', () => {
    const pool = testPool()
    const wrong = inspector as (pool: unknown, options?: unknown) => unknown
    const authorize = () => true
    expect(() => wrong({}, { authorize })).toThrow('the first argument must be a ClientPool')
    expect(() => wrong(pool, authorize)).toThrow('options must be an object such as')
    expect(() => wrong(pool, { authorize, action: [] })).toThrow('did you mean "actions"?')
    expect(() => wrong(pool, { authorize, actions: ['kill'] })).toThrow(
      "must be an array of 'send', 'remove' and 'drain'",
    )
  })
})

describe('authorize', () => {
  const PATHS = ['', 'page.js', 'events', 'streams', 'sent?stream=1', 'send', 'nothing']

  test.each([
    ['false', () => false],
    ['undefined', () => undefined],
    ['a truthy value', () => 1],
    ['a promise of false', async () => false],
  ])('that returns %s answers every path with 403, known or not', async (_, authorize) => {
    const { get, post } = await serve(testPool(), { ...ALL, authorize })
    for (const path of PATHS) expect((await get(path)).status, path).toBe(403)
    expect((await post('remove', { client: 'ada' })).status).toBe(403)
  })

  test('lets in on a promise of true', async () => {
    const { get } = await serve(testPool(), { authorize: async () => true })
    for (const path of ['', 'page.js', 'page.css', 'streams', 'channels', 'options']) {
      expect((await get(path)).status, path).toBe(200)
    }
    expect((await get('nothing')).status).toBe(404)
    expect((await get('../inspector/a/b')).status).toBe(404)
  })

  test('can refuse in another way, and an error in it lets nobody in', async () => {
    const { get } = await serve(testPool(), {
      authorize: ctx => {
        if (ctx.query.fail) throw new Error('database')
        ctx.throw(401)
      },
    })
    expect((await get('')).status).toBe(401)
    expect((await get('?fail=1')).status).toBe(500)
  })
})

describe('the page', () => {
  test('has a policy without inline scripts and other sites, and cannot be framed', async () => {
    const { get } = await serve(testPool())
    const response = await get('')
    const policy = response.headers.get('Content-Security-Policy')
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'")
    expect(policy).toContain("frame-ancestors 'none'")
    expect(policy).not.toContain('unsafe')
    expect(response.headers.get('X-Frame-Options')).toBe('DENY')
    expect(response.headers.get('X-Content-Type-Options')).toBe('nosniff')
    const html = await response.text()
    expect(html).not.toMatch(/<script>|style=|\son\w+=|https?:/)
    expect(html.match(/(src|href)="[^"]*"/g)).toEqual([
      'href="page.css"',
      'src="page.js"',
      'href="#streams"',
    ])
  })

  test('is answered 304 while it has not changed', async () => {
    const { get, origin } = await serve(testPool())
    const etag = (await get('page.js')).headers.get('ETag') as string
    // Not by fetch(), which adds `Cache-Control: no-cache`.
    const headers = { 'If-None-Match': etag }
    expect((await connect(origin, '/inspector/page.js', { headers })).status).toBe(304)
  })

  test('gets the slash that its relative links need, below a router and with koa-mount', async () => {
    const pool = testPool()
    const app = new Koa()
    const middleware = inspector(pool, ALL)
    app.use(mount('/mounted', middleware))
    const router = new Router({ prefix: '/admin' })
    router.all('/inspector{/*path}', middleware)
    app.use(mount('/deep', router.routes()))
    const { origin } = await listen(http.createServer(app.callback()))
    for (const base of ['/mounted', '/deep/admin/inspector']) {
      const response = await fetch(`${origin}${base}?x=1`, { redirect: 'manual' })
      expect(response.status).toBe(302)
      const location = response.headers.get('Location') as string
      expect(new URL(location, `${origin}${base}`).href).toBe(`${origin}${base}/?x=1`)
      for (const path of ['', 'page.js', 'streams']) {
        expect((await fetch(`${origin}${base}/${path}`)).status, base + path).toBe(200)
      }
      expect((await fetch(`${origin}${base}/nothing`)).status).toBe(404)
    }
  })

  test('takes a POST for nothing but actions, and a GET for none of them', async () => {
    const { get, post } = await serve(testPool())
    expect((await post('streams', {})).status).toBe(405)
    const response = await get('remove')
    expect(response.status).toBe(405)
    expect(response.headers.get('Allow')).toBe('POST')
  })
})

describe('lists', () => {
  test('show each stream with its state and how far it is behind', async () => {
    const pool = testPool()
    const { origin, list } = await serve(pool)
    await connect(origin, '/events?id=ada&channels=news,room:1')
    await connect(origin, '/events?id=bob')
    const { rows, total, more, missing, isAlone } = await list('streams')
    expect({ total, more, missing, isAlone }).toEqual({
      total: 2,
      more: false,
      missing: [],
      isAlone: false,
    })
    expect(rows).toMatchObject([
      { id: 'ada', state: 'live', behind: 0, channels: ['news', 'room:1'], channelCount: 2 },
      { id: 'bob', state: 'live', behind: 0, channels: [] },
    ])
    expect(await list('channels')).toMatchObject({
      total: 2,
      rows: [
        { name: 'news', streams: 1 },
        { name: 'room:1', streams: 1 },
      ],
    })
  })

  test('put the stream that is furthest behind first, by entries of the log', async () => {
    const pool = testPool()
    const { origin, list } = await serve(pool)
    await connect(origin, '/events?id=a')
    const slow = await connect(origin, '/events?id=slow')
    slow.response.pause()
    const data = 'x'.repeat(500_000)
    let rows: Json[] = []
    // Until the kernel's buffers are full.
    for (let sent = 0; !(rows[0]?.behind >= 3) && sent < 100; sent += 1) {
      await pool.send('slow', data)
      rows = (await list('streams?sort=behind')).rows
    }
    expect(rows[0]).toMatchObject({ id: 'slow', state: 'blocked', behind: pool.stats().lag.max })
    expect(rows[0].buffered).toBeGreaterThan(0)
    expect(rows[1]).toMatchObject({ id: 'a', behind: 0 })
  })

  test('find clients by a part of their id, and the streams of a channel', async () => {
    const { origin, list } = await serve(testPool())
    await connect(origin, '/events?id=Ada-1&channels=news')
    await connect(origin, '/events?id=ada-2&channels=newsletter')
    await connect(origin, '/events?id=bob&channels=news')
    expect(idsOf(await list('streams?search=ADA'))).toEqual(['Ada-1', 'ada-2'])
    expect(idsOf(await list('streams?search=%23news'))).toEqual(['Ada-1', 'bob'])
    expect((await list('channels?search=LETTER')).rows).toEqual([
      { name: 'newsletter', streams: 1 },
    ])
  })

  test.each(['id', 'behind'])('are paged without a gap or a repetition, by %s', async sort => {
    const { sites } = await serveTwo()
    for (let index = 0; index < 11; index += 1) {
      const { origin } = sites[index % 2 === 0 ? 0 : 1]
      // Two streams of one client are in the same place of the order but for their process and number.
      await connect(origin, `/events?id=c${Math.floor(index / 2)}&channels=ch${index}`)
    }
    const seen: string[] = []
    let after = ''
    for (let page = 0; page < 20; page += 1) {
      const part = await sites[0].list(`streams?sort=${sort}&limit=3${after}`)
      expect(part.total).toBe(11)
      for (const { id, process, stream } of part.rows) seen.push(`${id} ${process} ${stream}`)
      if (!part.more) break
      const { id, behind, process, stream } = part.rows.at(-1)
      after = `&after=${encodeURIComponent(JSON.stringify({ id, behind, process, stream }))}`
    }
    expect(seen).toHaveLength(11)
    expect(new Set(seen).size).toBe(11)

    const names: string[] = []
    for (let more = true; more; ) {
      const last = names.at(-1)
      const part = await sites[0].list(`channels?limit=4${last ? `&after=${last}` : ''}`)
      for (const { name } of part.rows) names.push(name)
      more = part.more
    }
    expect(names).toHaveLength(11)
    expect(names).toEqual([...new Set(names)].sort())
  })

  test('never become larger than an entry of the log may be', async () => {
    const pool = testPool({ maxStreamsPerClient: 1000 })
    const { origin, list } = await serve(pool)
    const long = encodeURIComponent('字'.repeat(256))
    const channels = ['a', 'b', 'c', 'd', 'e', 'f']
      .map(name => encodeURIComponent(name + '字'.repeat(200)))
      .join(',')
    for (let index = 0; index < 200; index += 1) {
      await connect(origin, `/events?id=${long}&channels=${channels}`)
    }
    const part = await list('streams?limit=200')
    expect(JSON.stringify(part).length).toBeLessThan(256 * 1024)
    expect(part.rows[0].channels).toHaveLength(4)
    expect(part.rows[0].channels[0]).toHaveLength(64)
    expect(part).toMatchObject({ total: 200, more: true })
    expect(part.rows[0].channelCount).toBe(6)
  })

  test.each([
    'streams?limit=0',
    'streams?limit=201',
    'streams?limit=x',
    'streams?after=x',
    'streams?after=%7B%7D',
    'streams?search=a&search=b',
    `streams?search=${'a'.repeat(3000)}`,
    'channels?after=a&after=b',
  ])('refuse %s', async path => {
    const { get } = await serve(testPool())
    expect((await get(path)).status).toBe(400)
  })

  test('are not for pages of other sites', async () => {
    const { get } = await serve(testPool())
    expect((await get('streams', { 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403)
    expect((await get('events', { 'Sec-Fetch-Site': 'same-site' })).status).toBe(403)
    expect((await get('', { 'Sec-Fetch-Site': 'cross-site' })).status).toBe(200)
  })
})

describe('one stream', () => {
  test('shows what it was sent, newest first, with names and sizes', async () => {
    const pool = testPool()
    const { origin, list } = await serve(pool)
    await pool.send('ada', { event: 'before', data: 1 })
    const ada = await connect(origin, '/events?id=ada&channels=news')
    await pool.send('ada', { event: 'private', data: { n: 1 } })
    await pool.send('bob', 'not for ada')
    await pool.channel('news').send({ event: 'headline', data: 'x'.repeat(5000) })
    await pool.broadcast({ event: 'all', data: 'hi' }, { except: 'ada' })
    await pool.broadcast('last')
    await ada.until(({ data }) => data.includes('last'))
    const [row] = (await list('streams')).rows
    const answer = await list(`sent?process=${row.process}&stream=${row.stream}`)
    expect(answer).toMatchObject({ waiting: 0, cursor: ada.lastEventId, tail: ada.lastEventId })
    expect(answer.sent).toMatchObject([
      { event: 'message', target: '*', isLive: true, data: 'last' },
      { event: 'headline', target: '#news', isLive: true },
      { event: 'private', target: '@ada', isLive: true, data: '{"n":1}' },
      { event: 'before', target: '@ada', isLive: false },
    ])
    expect(answer.sent[1].bytes).toBeGreaterThan(5000)
    expect(answer.sent[1].data).toHaveLength(1000)
  })

  test('shows no data unless the option allows it', async () => {
    const pool = testPool()
    const { origin, list } = await serve(pool, { authorize: () => true })
    const ada = await connect(origin, '/events?id=ada')
    await pool.send('ada', 'secret')
    await ada.until(({ data }) => data.includes('secret'))
    const [row] = (await list('streams')).rows
    const answer = await list(`sent?process=${row.process}&stream=${row.stream}`)
    expect(answer.sent).toHaveLength(1)
    expect(JSON.stringify(answer)).not.toContain('secret')
  })

  test('is gone with its stream', async () => {
    const pool = testPool()
    const { origin, list, get } = await serve(pool)
    await connect(origin, '/events?id=ada')
    const [row] = (await list('streams')).rows
    await pool.remove('ada')
    expect((await get(`sent?process=${row.process}&stream=${row.stream}`)).status).toBe(404)
    expect((await get('sent?process=unknown&stream=1')).status).toBe(404)
  })
})

describe('actions', () => {
  test.each([
    ['another site', { 'Sec-Fetch-Site': 'cross-site' }],
    ['another subdomain', { 'Sec-Fetch-Site': 'same-site', Origin: 'https://other.example' }],
    ['another origin', { Origin: 'https://evil.example' }],
    ['a sandboxed page', { Origin: 'null' }],
    ['no page', {}],
  ])('are refused from %s', async (_, headers) => {
    const pool = testPool()
    const { origin, post } = await serve(pool)
    await connect(origin, '/events?id=ada')
    for (const path of ['send', 'remove', 'drain']) {
      const body = { client: 'ada', to: 'everyone', event: 'test', process: '' }
      expect((await post(path, body, headers)).status).toBe(403)
    }
    expect(pool.stats().streams).toBe(1)
  })

  test('are allowed by Origin where a browser sends no Sec-Fetch-Site', async () => {
    const { origin, post } = await serve(testPool())
    const body = { to: 'everyone', event: 'test' }
    expect((await post('send', body, { Origin: origin })).status).toBe(200)
  })

  test('must be allowed by the option, one by one', async () => {
    const { post } = await serve(testPool(), { authorize: () => true, actions: ['send'] })
    expect((await post('send', { to: 'everyone', event: 'test' })).status).toBe(200)
    expect((await post('remove', { client: 'ada' })).status).toBe(403)
    expect((await post('drain', { process: 'x' })).status).toBe(403)
  })

  test.each([
    ['send', 'no json', 400],
    ['send', '[]', 400],
    ['send', { to: 'everyone' }, 400],
    ['send', { to: 'nobody', name: 'x', event: 'test' }, 400],
    ['send', { to: 'channel', name: '', event: 'test' }, 400],
    ['send', { to: 'everyone', event: 'two\nlines' }, 400],
    ['send', { to: 'everyone', event: 'test', data: 'x'.repeat(70_000) }, 413],
    ['remove', {}, 400],
    ['drain', { process: 'x', spread: -1 }, 400],
    ['drain', {}, 400],
  ])('%s refuses %j with %i', async (path, body, status) => {
    const { post } = await serve(testPool())
    expect((await post(path, body)).status).toBe(status)
  })

  test('refuse another content type than JSON, which a form of another site cannot send', async () => {
    const { post } = await serve(testPool())
    const headers = { ...SAME, 'Content-Type': 'text/plain' }
    expect((await post('remove', { client: 'ada' }, headers)).status).toBe(415)
  })

  test('send to a client, a channel and everyone, on all processes', async () => {
    const { sites } = await serveTwo()
    const ada = await connect(sites[1].origin, '/events?id=ada&channels=news')
    for (const [to, name] of [
      ['client', 'ada'],
      ['channel', 'news'],
      ['everyone', undefined],
    ]) {
      const response = await sites[0].post('send', { to, name, event: `to ${to}`, data: { to } })
      expect(await response.json()).toEqual({ id: expect.any(String) })
      expect((await ada.event(`to ${to}`)).data).toBe(JSON.stringify({ to }))
    }
  })

  test('remove ends the streams of a client on all processes', async () => {
    const { sites } = await serveTwo()
    const ada = await connect(sites[1].origin, '/events?id=ada')
    expect((await sites[0].post('remove', { client: 'ada' })).status).toBe(200)
    await ada.event('close')
    expect(await ada.ended).toBe(true)
  })

  test('drain ends the streams of one process, and its pool stays open', async () => {
    const { sites, pools } = await serveTwo()
    const [here, there] = await Promise.all(
      sites.map(({ origin }) => connect(origin, '/events?id=a')),
    )
    const rows = (await sites[0].list('streams')).rows as { process: string }[]
    const own = (await testSample(sites[0].origin)).id
    const other = rows.find(({ process }) => process !== own)
    const response = await sites[0].post('drain', { process: other?.process, spread: 0 })
    expect(await response.json()).toEqual({ streams: 1 })
    expect(await there?.ended).toBe(true)
    expect(there?.text).toMatch(/retry: \d+/)
    expect(pools[1].stats()).toMatchObject({ streams: 0, closed: { drain: 1 } })
    expect(here?.response.destroyed).toBe(false)
    await connect(sites[1].origin, '/events?id=again')
  })

  test('drain is refused by a process that does not allow it', async () => {
    const shared = sharedLog()
    const pools = [testPool({ log: shared.open() }), testPool({ log: shared.open() })] as const
    const asking = await serve(pools[0])
    const asked = await serve(pools[1], { authorize: () => true })
    await connect(asked.origin, '/events?id=ada')
    const [row] = (await asking.list('streams')).rows
    expect((await asking.post('drain', { process: row.process })).status).toBe(404)
    expect(pools[1].stats().streams).toBe(1)
  })
})

describe('several processes', () => {
  test('are shown together, and a channel on both is one row', async () => {
    const { sites } = await serveTwo()
    await connect(sites[0].origin, '/events?id=ada&channels=news')
    await connect(sites[1].origin, '/events?id=bob&channels=news,rooms')
    const streams = await sites[0].list('streams')
    expect(idsOf(streams)).toEqual(['ada', 'bob'])
    expect(new Set(streams.rows.map(({ process }: Json) => process)).size).toBe(2)
    expect((await sites[1].list('channels')).rows).toEqual([
      { name: 'news', streams: 2 },
      { name: 'rooms', streams: 1 },
    ])
  })

  test('show what was sent to a stream of another', async () => {
    const { sites, pools } = await serveTwo()
    const bob = await connect(sites[1].origin, '/events?id=bob')
    await pools[0].send('bob', { event: 'hello', data: 1 })
    await bob.event('hello')
    const [row] = (await sites[0].list('streams')).rows
    const { sent } = await sites[0].list(`sent?process=${row.process}&stream=${row.stream}`)
    expect(sent).toMatchObject([{ event: 'hello', target: '@bob' }])
  })

  test('name one that has no inspector, whose streams are not shown', async () => {
    const shared = sharedLog()
    const { list } = await serve(testPool({ log: shared.open() }))
    testPool({ log: shared.open() })
    expect(await list('streams')).toMatchObject({ silent: [expect.stringMatching(/:\d+$/)] })
  })

  test('name one that does not answer, until it does', async () => {
    const shared = sharedLog()
    const { list } = await serve(testPool({ log: shared.open() }))
    const engine = shared.open()
    let isFrozen = false
    const log: EventLog = {
      ...engine,
      append: entry => (isFrozen ? new Promise(() => {}) : engine.append(entry)),
    }
    inspector(testPool({ log }), ALL)
    expect(await list('streams')).toMatchObject({ missing: [] })
    isFrozen = true
    expect((await list('streams')).missing).toEqual([expect.stringMatching(/:\d+$/)])
    // It is not waited for again, and still named.
    expect((await list('streams')).missing).toHaveLength(1)
    isFrozen = false
    expect(await list('streams')).toMatchObject({ missing: [] })
  })

  test('show this one alone while the log is out of reach', async () => {
    const { shared, sites } = await serveTwo()
    await connect(sites[0].origin, '/events?id=ada')
    await connect(sites[1].origin, '/events?id=bob')
    shared.state.isDown = true
    const answer = await sites[0].list('streams')
    expect(answer.isAlone).toBe(true)
    expect(idsOf(answer)).toEqual(['ada'])
  })
})

/** The first sample of the page's event stream. */
async function testSample(origin: string) {
  const page = await connect(origin, '/inspector/events', {
    headers: { Accept: 'text/event-stream' },
  })
  expect(page).toBeInstanceOf(TestClient)
  return JSON.parse((await page.event('sample')).data)
}

describe("the page's own stream", () => {
  test('is not counted among those of the pool, and gets none of its events', async () => {
    const pool = testPool()
    const { origin } = await serve(pool)
    const page = await connect(origin, '/inspector/events')
    const sample = JSON.parse((await page.event('sample')).data)
    expect(sample.stats).toMatchObject({ clients: 0, streams: 0, opened: 0 })
    await pool.broadcast({ event: 'for all', data: 1 })
    const { processes } = JSON.parse((await page.event('processes')).data)
    expect(processes).toMatchObject([{ id: sample.id, engine: 'memory', isReady: true }])
    // The next sample, which shows that the broadcast has passed.
    await page.until(({ events }) => events.filter(({ event }) => event === 'sample').length > 1)
    expect(page.events.some(({ event }) => event === 'for all')).toBe(false)
    expect(pool.stats()).toMatchObject({ deliveries: 0, streams: 0 })
  })

  test('ends when the pool closes, so that the server can close too', async () => {
    const pool = testPool()
    const { origin } = await serve(pool)
    const page = await connect(origin, '/inspector/events')
    await page.event('sample')
    await pool.close()
    expect(await page.ended).toBe(true)
  })
})
