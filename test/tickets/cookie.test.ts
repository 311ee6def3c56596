import { once } from 'node:events'
import http2 from 'node:http2'
import { EventSource } from 'eventsource'
import type { ClientPool } from 'koa-sse-pool'
import type { StreamTicketsOptions, TicketGrant } from 'koa-sse-pool/tickets'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { parseCookies } from '../../src/tickets/cookie.js'
import { connect, listen } from '../helpers/server.js'
import { cookieOf, expectRefused, Jar, serveTickets } from '../helpers/tickets.js'

function useFakeDate() {
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
}

describe('the cookie', () => {
  /** A client that has redeemed a ticket and disconnected. */
  async function redeemed(
    options: Partial<StreamTicketsOptions> = {},
    grant?: Partial<TicketGrant>,
  ) {
    const served = await serveTickets(options)
    const ticket = await served.tickets.issue({ id: 'ada', ...grant })
    const path = `/?ticket=${ticket}`
    const client = await connect(served.origin, path)
    client.close()
    return { ...served, ticket, path, client, jar: new Jar().take(client.headers) }
  }

  test('lets the same browser reconnect long after the ticket has expired', async () => {
    useFakeDate()
    const { origin, path, jar, pool } = await redeemed({}, { channels: ['orders'] })
    for (let i = 0; i < 3; i++) {
      vi.advanceTimersByTime(3_599_000)
      const client = await connect(origin, path, jar.options)
      expect(client.status).toBe(200)
      await pool.channel('orders').send(`${i}`)
      await client.until(({ data }) => data.includes(`${i}`))
      jar.take(client.headers)
      expect(jar.cookies.size).toBe(1)
    }
  })

  test('expires after the option resumeFor', async () => {
    useFakeDate()
    const { origin, path, jar, refusals, client } = await redeemed({ resumeFor: 60_000 })
    expect(cookieOf(client)).toContain('Max-Age=60;')
    vi.advanceTimersByTime(60_000)
    await expectRefused(await connect(origin, path, jar.options))
    expect(refusals).toEqual(['cookie'])
  })

  test('is valid for its own ticket only', async () => {
    const { origin, tickets, path, jar, refusals } = await redeemed()
    const other = await redeemed()
    const [[name]] = jar.cookies as Iterable<[string]> as [[string]]
    const [[otherName, value]] = other.jar.cookies as Iterable<[string, string]> as [
      [string, string],
    ]
    for (const cookie of [`${name}=${value}`, `${otherName}=${value}`]) {
      const headers = { Cookie: cookie }
      await expectRefused(await connect(origin, path, { headers }))
    }
    // A fresh ticket needs no cookie.
    const fresh = await tickets.issue({ id: 'ada' })
    expect((await connect(origin, `/?ticket=${fresh}`, other.jar.options)).status).toBe(200)
    expect(refusals).toEqual(['cookie', 'spent'])
  })

  test('is refused if any part of it was changed', async () => {
    const { origin, path, jar, refusals } = await redeemed()
    const [[name, value]] = jar.cookies as Iterable<[string, string]> as [[string, string]]
    const [header, payload, signature] = value.split('.') as [string, string, string]
    const later = { ...JSON.parse(Buffer.from(payload, 'base64url').toString()), exp: 9e9 }
    const longer = Buffer.from(JSON.stringify(later)).toString('base64url')
    const changed = [
      '',
      'x',
      `${header}.${longer}.${signature}`,
      `${header}.${payload}.`,
      `${value}x`,
    ]
    for (const bad of changed) {
      const headers = { Cookie: `${name}=${bad}` }
      await expectRefused(await connect(origin, path, { headers }))
    }
    expect(refusals).toEqual(changed.map(() => 'cookie'))
  })

  test('is found beside one of the same name that a neighbouring subdomain has set', async () => {
    const { origin, path, jar } = await redeemed()
    const [[name, value]] = jar.cookies as Iterable<[string, string]> as [[string, string]]
    const headers = { Cookie: `a; ${name}=evil; =; b=c=d;${name}=${value} ;x=` }
    expect((await connect(origin, path, { headers })).status).toBe(200)
  })

  test('is invisible to scripts and limited to this path and site', async () => {
    const { client } = await redeemed()
    const [, name = '', rest] = /^([^=]+)=[\w.-]+(; .*)$/.exec(cookieOf(client)) ?? []
    expect(name).toMatch(/^sse-[\w-]{16}$/)
    expect(rest).toBe('; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax')
    expect(client.headers['set-cookie']).toHaveLength(1)
  })

  test.each<[StreamTicketsOptions['cookie'], string, string]>([
    [{ sameSite: 'strict' }, '', '; SameSite=Strict'],
    [{ sameSite: 'none' }, '', '; SameSite=None; Secure'],
    [{ partitioned: true }, '', '; SameSite=Lax; Secure; Partitioned'],
    [{ path: '/api/event' }, '', '; Path=/api/event;'],
    [{ name: 'live' }, '', 'live-'],
    [{}, '/event/push', '; Path=/event/push; '],
    [{}, '/event/push;Domain=evil.example', '; Path=/event/; '],
    [{}, '/event%3bpush', '; Path=/event%3bpush; '],
    [{}, "/a/b,c'd/", "; Path=/a/b,c'd/; "],
  ])('with the option %j, set at the path "%s", contains "%s"', async (cookie, path, expected) => {
    const { origin, tickets } = await serveTickets({ cookie })
    const client = await connect(
      origin,
      `${path || '/'}?ticket=${await tickets.issue({ id: 'a' })}`,
    )
    expect(cookieOf(client)).toContain(expected)
    expect(cookieOf(client)).not.toContain('Domain')
  })

  test('is Secure if the connection is, also behind a trusted proxy', async () => {
    const { app, origin, tickets } = await serveTickets()
    app.proxy = true
    const headers = { 'X-Forwarded-Proto': 'https' }
    const client = await connect(origin, `/?ticket=${await tickets.issue({ id: 'a' })}`, {
      headers,
    })
    expect(cookieOf(client)).toMatch(/; SameSite=Lax; Secure$/)
  })

  test('replaces the oldest one beyond sixteen for a path', async () => {
    useFakeDate()
    const { origin, tickets } = await serveTickets()
    const jar = new Jar()
    jar.cookies.set('session', 'kept')
    jar.cookies.set('sse-other', 'kept')
    const names: string[] = []
    for (let tab = 0; tab < 40; tab++) {
      const path = `/?ticket=${await tickets.issue({ id: 'ada' })}`
      const client = await connect(origin, path, jar.options)
      expect(client.status).toBe(200)
      jar.take(client.headers)
      names.push(cookieOf(client).split('=')[0] as string)
      vi.advanceTimersByTime(1000)
    }
    expect([...jar.cookies.keys()]).toEqual(['session', 'sse-other', ...names.slice(-16)])
    expect(jar.options.headers.Cookie.length).toBeLessThan(6000)
  })

  test('counts its age from the latest connection of its tab', async () => {
    useFakeDate()
    const { origin, tickets, path, jar } = await redeemed()
    const [name] = jar.cookies.keys()
    for (let tab = 0; tab < 30; tab++) {
      vi.advanceTimersByTime(1000)
      const next = `/?ticket=${await tickets.issue({ id: 'ada' })}`
      jar.take((await connect(origin, next, jar.options)).headers)
      jar.take((await connect(origin, path, jar.options)).headers)
    }
    expect(jar.cookies.size).toBe(16)
    expect([...jar.cookies.keys()]).toContain(name)
  })

  test('that cannot be read is dropped first', async () => {
    const { origin, tickets } = await serveTickets()
    const junk = Array.from({ length: 16 }, (_, i) => `sse-${`${i}`.padEnd(16, '_')}=%`)
    const path = `/?ticket=${await tickets.issue({ id: 'ada' })}`
    const client = await connect(origin, path, { headers: { Cookie: junk.join('; ') } })
    expect(client.status).toBe(200)
    expect(client.headers['set-cookie']).toHaveLength(2)
  })

  test('is not set with resumeFor: false', async () => {
    const { origin, path, client, refusals } = await redeemed({ resumeFor: false })
    expect(client.headers['set-cookie']).toBeUndefined()
    await expectRefused(await connect(origin, path))
    expect(refusals).toEqual(['spent'])
  })

  test('is accepted by a process that has just started', async () => {
    const { path, jar, pool } = await redeemed()
    await pool.close()
    const restarted = await serveTickets()
    expect((await connect(restarted.origin, path, jar.options)).status).toBe(200)
  })
})

describe('a Cookie header', () => {
  test.each<[string, [name: string, value: string][]]>([
    ['', []],
    ['a=1', [['a', '1']]],
    [
      'a=1; b=2;c=3',
      [
        ['a', '1'],
        ['b', '2'],
        ['c', '3'],
      ],
    ],
    [
      ' a = 1 ;\tb=2\t',
      [
        ['a', '1'],
        ['b', '2'],
      ],
    ],
    [
      'a=1; a=2',
      [
        ['a', '1'],
        ['a', '2'],
      ],
    ],
    ['a=b=c==', [['a', 'b=c==']]],
    ['a=', [['a', '']]],
    ['a="1 2"', [['a', '"1 2"']]],
    ['a; =b; =; ; a', []],
    ['__proto__=1', [['__proto__', '1']]],
  ])('%j is parsed into %j', (header, expected) => {
    expect(parseCookies(header).map(({ name, value }) => [name, value])).toEqual(expected)
  })

  const SIZE = 14 * 1024
  const HOSTILE: [what: string, header: string, value: string | undefined][] = [
    ['spaces', ' '.repeat(SIZE), undefined],
    ['spaces within a value', `x=${' '.repeat(SIZE)}y`, 'y'],
    ['spaces within a name', `x${' '.repeat(SIZE)}y=z`, undefined],
    ['spaces before the "="', `x${' '.repeat(SIZE)}=z`, 'z'],
    ['tabs and spaces', `x=${'\t '.repeat(SIZE / 2)}y`, 'y'],
    ['"="', '='.repeat(SIZE), undefined],
    ['"=" in a value', `x${'='.repeat(SIZE)}`, '='.repeat(SIZE - 1)],
    ['";"', ';'.repeat(SIZE), undefined],
    ['"; "', '; '.repeat(SIZE / 2), undefined],
    ['"=;"', '=;'.repeat(SIZE / 2), undefined],
    ['a name without "="', 'x'.repeat(SIZE), undefined],
  ]

  test.each(HOSTILE)(
    'of 14 KB of %s is parsed without a regular expression, which could backtrack (fault 78)',
    (_, header, value) => {
      const exec = vi.spyOn(RegExp.prototype, 'exec')
      onTestFinished(() => exec.mockRestore())
      const cookies = parseCookies(header)
      const calls = exec.mock.calls.length
      exec.mockRestore()
      expect(cookies.find(({ name }) => name === 'x')?.value).toBe(value)
      expect(calls).toBe(0)
    },
  )

  test('of 14 KB of junk does not hide the cookie beside it (fault 78)', async () => {
    const { origin, tickets } = await serveTickets()
    const path = `/?ticket=${await tickets.issue({ id: 'ada' })}`
    const { options } = new Jar().take((await connect(origin, path)).headers)
    const { Cookie: own } = options.headers
    for (const [, header] of HOSTILE) {
      // With the other headers within the 16 KiB that Node accepts.
      const headers = { Cookie: `${header.slice(0, SIZE)}; ${own}` }
      expect((await connect(origin, path, { headers })).status).toBe(200)
    }
  })
})

describe('a real EventSource', () => {
  /** An EventSource that keeps cookies, as a browser does. */
  function openSource(url: string, jar = new Jar()) {
    const statuses: number[] = []
    const source = new EventSource(url, {
      fetch: async (input, init) => {
        const headers = { ...init.headers, ...jar.options.headers }
        const response = await fetch(input, { ...init, headers })
        statuses.push(response.status)
        jar.take({ 'set-cookie': response.headers.getSetCookie() })
        return response
      },
    })
    onTestFinished(() => source.close())
    const next = (type: string) =>
      new Promise<Event>(resolve => source.addEventListener(type, resolve, { once: true }))
    return { source, statuses, next }
  }

  const opening = (pool: ClientPool) => new Promise(resolve => pool.once('open', resolve))

  test('reconnects with its spent ticket and misses nothing', async () => {
    const { origin, cut, pool, tickets } = await serveTickets({}, { retry: 1 })
    const url = `${origin}/?ticket=${await tickets.issue({ id: 'ada' })}`
    const { next, statuses } = openSource(url)
    await next('open')
    for (const text of ['one', 'two', 'three']) {
      const back = opening(pool)
      cut()
      await pool.send('ada', text)
      const message = next('message')
      await back
      expect(((await message) as MessageEvent).data).toBe(text)
    }
    expect(statuses).toEqual([200, 200, 200, 200])
  })

  test('without its cookie is stopped for good by the 401', async () => {
    const { origin, cut, tickets, refusals } = await serveTickets({}, { retry: 1 })
    const url = `${origin}/?ticket=${await tickets.issue({ id: 'ada' })}`
    const jar = new Jar()
    const { source, next, statuses } = openSource(url, jar)
    await next('open')
    jar.cookies.clear()
    cut()
    await next('error')
    if (source.readyState !== source.CLOSED) await next('error')
    expect(source.readyState).toBe(source.CLOSED)
    expect(statuses).toEqual([200, 401])
    expect(refusals).toEqual(['spent'])
  })

  test('without cookies gets a new ticket, passes its cursor, and misses nothing', async () => {
    const { origin, cut, pool, tickets } = await serveTickets({ resumeFor: false }, { retry: 1 })
    const texts: string[] = []
    let lastEventId = ''
    let arrived = () => {}
    // The page's code in docs/tickets.md.
    const listen = async () => {
      const query = new URLSearchParams({ ticket: await tickets.issue({ id: 'ada' }), lastEventId })
      const { source } = openSource(`${origin}/?${query}`)
      const note = (event: MessageEvent) => {
        lastEventId = event.lastEventId || lastEventId
        if (event.type === 'message') texts.push(event.data)
        arrived()
      }
      source.addEventListener('sse.cursor', note)
      source.addEventListener('message', note)
      source.addEventListener('error', () => {
        if (source.readyState === source.CLOSED) void listen()
      })
    }
    const until = (condition: () => boolean) =>
      new Promise<void>(resolve => {
        arrived = () => condition() && resolve()
        arrived()
      })
    void listen()
    await until(() => lastEventId !== '')
    for (let i = 0; i < 5; i++) {
      cut()
      await pool.send('ada', `${i}`)
      await until(() => texts.includes(`${i}`))
    }
    expect(texts).toEqual(['0', '1', '2', '3', '4'])
  })
})

test('the cookie is found over HTTP/2, where each cookie has a header of its own', async () => {
  const { app, tickets } = await serveTickets()
  const server = http2.createServer(app.callback())
  const { origin } = await listen(server)
  const session = http2.connect(origin)
  onTestFinished(() => session.destroy())
  const path = `/?ticket=${await tickets.issue({ id: 'ada', origin })}`
  const get = async (cookie: string[]) => {
    const stream = session.request({ ':path': path, accept: 'text/event-stream', cookie })
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
    return headers
  }
  const first = await get([])
  expect(first[':status']).toBe(200)
  const pair = /^[^;]+/.exec(first['set-cookie']?.[0] ?? '')?.[0] ?? ''
  expect((await get(['a=b', pair, 'c=d']))[':status']).toBe(200)
  expect((await get(['a=b']))[':status']).toBe(401)
})
