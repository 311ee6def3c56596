import { sse } from 'koa-sse-pool'
import type { StreamTicketsOptions } from 'koa-sse-pool/tickets'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { serveApp } from '../helpers/app.js'
import { connect, testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'
import {
  claims,
  expectRefused,
  forge,
  forgeText,
  Jar,
  SECRET,
  serveTickets,
} from '../helpers/tickets.js'

function useFakeDate() {
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
}

/** Processes on one log, each with its server and the same secret. */
async function processes(count: number, options: Partial<StreamTicketsOptions> = {}) {
  const log = sharedLog()
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const pool = testPool({ log: log.open() })
      pool.on('error', () => {})
      return serveTickets(options, { pool })
    }),
  )
  type Served = (typeof servers)[number]
  return { log, servers: servers as [Served, Served, Served] }
}

describe('a ticket', () => {
  test('opens a stream with the id and the channels that it was issued for', async () => {
    const { origin, tickets, pool } = await serveTickets()
    const ticket = await tickets.issue({ id: 7, channels: ['orders', 'news'] })
    const client = await connect(origin, `/?ticket=${ticket}`)
    expect(client.status).toBe(200)
    await pool.send('7', 'to the client')
    await pool.channel('orders').send('to a channel')
    await pool.channel('others').send('to others')
    await pool.channel('news').send('to another')
    await client.until(({ data }) => data.includes('to another'))
    expect(client.data).toEqual(['to the client', 'to a channel', 'to another'])
  })

  test('needs no encoding in a URL, and contains only what it grants', async () => {
    const { tickets } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada' })
    expect(encodeURIComponent(ticket)).toBe(ticket)
    const [header, payload] = ticket
      .split('.')
      .map(part => Buffer.from(part, 'base64url').toString())
    expect(JSON.parse(header as string)).toEqual({ alg: 'HS256', typ: 'sse-ticket' })
    expect(JSON.parse(payload as string)).toEqual({
      aud: 'koa-sse-pool',
      jti: expect.stringMatching(/^[\w-]{16}$/),
      sub: 'ada',
      ch: [],
      iat: expect.any(Number),
      exp: expect.any(Number),
    })
  })

  test('expires after 30 seconds', async () => {
    useFakeDate()
    const { origin, tickets, refusals } = await serveTickets()
    const [early, late] = [await tickets.issue({ id: 'ada' }), await tickets.issue({ id: 'ada' })]
    vi.advanceTimersByTime(29_999)
    expect((await connect(origin, `/?ticket=${early}`)).status).toBe(200)
    vi.advanceTimersByTime(1)
    await expectRefused(await connect(origin, `/?ticket=${late}`))
    expect(refusals).toEqual(['expired'])
  })

  test('expires after the option ttl and is read from the parameter in the option query', async () => {
    useFakeDate()
    const { origin, tickets, refusals } = await serveTickets({ ttl: 500, query: 'pass' })
    const [early, late] = [await tickets.issue({ id: 'ada' }), await tickets.issue({ id: 'ada' })]
    vi.advanceTimersByTime(499)
    expect((await connect(origin, `/?pass=${early}`)).status).toBe(200)
    vi.advanceTimersByTime(1)
    await expectRefused(await connect(origin, `/?pass=${late}`))
    await expectRefused(await connect(origin, `/?ticket=${late}`))
    expect(refusals).toEqual(['expired', 'missing'])
  })

  test('is accepted from a process whose clock is less than 5 seconds ahead', async () => {
    useFakeDate()
    const { origin, tickets, refusals } = await serveTickets()
    const [near, far] = [await tickets.issue({ id: 'ada' }), await tickets.issue({ id: 'ada' })]
    vi.setSystemTime(Date.now() - 4000)
    expect((await connect(origin, `/?ticket=${near}`)).status).toBe(200)
    vi.setSystemTime(Date.now() - 2000)
    await expectRefused(await connect(origin, `/?ticket=${far}`))
    expect(refusals).toEqual(['not-yet-valid'])
  })

  test('is not spent by a HEAD request or by a full pool', async () => {
    const pool = testPool({ maxClients: 1 })
    const { origin, tickets } = await serveTickets({}, { pool })
    const ticket = await tickets.issue({ id: 'ada' })
    const head = await connect(origin, `/?ticket=${ticket}`, { method: 'HEAD' })
    expect(head.status).toBe(200)
    expect(head.headers['set-cookie']).toBeUndefined()
    const other = await connect(origin, `/?ticket=${await tickets.issue({ id: 'bob' })}`)
    expect((await connect(origin, `/?ticket=${ticket}`)).status).toBe(503)
    const closed = new Promise(resolve => pool.once('close', resolve))
    other.close()
    await closed
    expect((await connect(origin, `/?ticket=${ticket}`)).status).toBe(200)
  })
})

describe('a bad ticket is answered 401 without a reason, which only the app gets', () => {
  const signed =
    (changes?: Record<string, unknown>, header?: object, secret?: string) => async () =>
      `ticket=${await forge(claims(changes), header, secret)}`
  const seconds = () => Date.now() / 1000
  const parts = async () => (await forge(claims())).split('.') as [string, string, string]
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

  const MISUSES: [what: string, why: string, query: () => Promise<string> | string][] = [
    ['a missing ticket', 'missing', () => ''],
    ['an empty ticket', 'missing', () => 'ticket='],
    ['two tickets', 'repeated', async () => `${await signed()()}&${await signed()()}`],
    ['a ticket of 10 KB', 'too-long', () => `ticket=${'a'.repeat(10_240)}`],
    ['a ticket of 4097 characters', 'too-long', () => `ticket=${'a'.repeat(4097)}`],
    ['text that is not a token', 'malformed', () => 'ticket=hello'],
    ['three empty parts', 'malformed', () => 'ticket=..'],
    ['control characters and emoji', 'malformed', () => 'ticket=%00.%0d%0a.%f0%9f%98%80'],
    ['an encrypted token', 'malformed', () => 'ticket=a.b.c.d.e'],
    [
      'a token signed with another secret',
      'signature',
      signed({}, {}, 'another secret that has 32 bytes or more'),
    ],
    [
      'a token with a changed claim',
      'signature',
      async () => {
        const [header, , signature] = await parts()
        return `ticket=${header}.${encode(claims({ sub: 'root' }))}.${signature}`
      },
    ],
    [
      'a token with another signature',
      'signature',
      async () => {
        const [header, payload] = await parts()
        return `ticket=${header}.${payload}.${'A'.repeat(43)}`
      },
    ],
    [
      'a token without a signature',
      'signature',
      async () => `ticket=${(await parts()).slice(0, 2).join('.')}.`,
    ],
    [
      'the algorithm none',
      'algorithm',
      async () => `ticket=${encode({ alg: 'none', typ: 'sse-ticket' })}.${encode(claims())}.`,
    ],
    [
      'the algorithm RS256',
      'algorithm',
      async () => `ticket=${encode({ alg: 'RS256' })}.${encode(claims())}.${'A'.repeat(43)}`,
    ],
    [
      'the algorithm HS512 with the right secret',
      'algorithm',
      async () => `ticket=${await forge(claims(), { alg: 'HS512' }, SECRET.padEnd(64, 'x'))}`,
    ],
    [
      'a critical extension',
      'malformed',
      async () => {
        const header = encode({ alg: 'HS256', typ: 'sse-ticket', crit: ['x'], x: 1 })
        return `ticket=${header}.${encode(claims())}.${'A'.repeat(43)}`
      },
    ],
    ['a token for something else', 'malformed', signed({}, { typ: 'JWT' })],
    ['a token without a type', 'malformed', signed({}, { typ: undefined })],
    ['another audience', 'audience', signed({ aud: 'somebody else' })],
    ['several audiences', 'malformed', signed({ aud: ['koa-sse-pool'] })],
    ['no audience', 'malformed', signed({ aud: undefined })],
    ['no expiry', 'malformed', signed({ exp: undefined })],
    ['an expiry that is not a number', 'malformed', signed({ exp: '9999999999' })],
    ['no id', 'malformed', signed({ sub: undefined })],
    ['an id that is not a string', 'malformed', signed({ sub: { toString: 'ada' } })],
    ['channels that are not an array', 'malformed', signed({ ch: 'orders' })],
    ['a channel that is not a string', 'malformed', signed({ ch: [1] })],
    ['no jti', 'malformed', signed({ jti: undefined })],
    ['a jti that would end the cookie', 'malformed', signed({ jti: 'a=b; Domain=evil' })],
    ['an expiry in the past', 'expired', signed({ exp: seconds() - 1 })],
    ['a start (nbf) in the future', 'not-yet-valid', signed({ nbf: seconds() + 60 })],
    ['an issue time in the future', 'not-yet-valid', signed({ iat: seconds() + 60 })],
    ['another origin', 'origin', signed({ org: 'https://elsewhere.example' })],
  ]

  test.each(MISUSES)('%s is refused as "%s"', async (_, why, query) => {
    const { origin, pool, refusals, errors } = await serveTickets()
    await expectRefused(await connect(origin, `/?${await query()}`))
    expect(refusals).toEqual([why])
    expect(errors).toEqual([])
    expect(pool.stats().opened).toBe(0)
  })

  test('a signed payload that is not an object is refused as "malformed"', async () => {
    const { origin, refusals } = await serveTickets()
    for (const body of [[], null, 'text']) {
      await expectRefused(await connect(origin, `/?ticket=${await forge(body)}`))
    }
    await expectRefused(await connect(origin, `/?ticket=${await forgeText('no JSON')}`))
    expect(refusals).toEqual(['malformed', 'malformed', 'malformed', 'malformed'])
  })

  test('a cookie does not pass as a ticket, nor a ticket as a cookie', async () => {
    const { origin, tickets, refusals } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada' })
    const { cookies } = new Jar().take((await connect(origin, `/?ticket=${ticket}`)).headers)
    const [[name, value]] = cookies as Iterable<[string, string]> as [[string, string]]
    await expectRefused(await connect(origin, `/?ticket=${value}`))
    const headers = { Cookie: `${name}=${ticket}` }
    await expectRefused(await connect(origin, `/?ticket=${ticket}`, { headers }))
    expect(refusals).toEqual(['malformed', 'cookie'])
  })

  test('the reason is logged by default, without the ticket', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    onTestFinished(() => warn.mockRestore())
    const { origin } = await serveTickets({ onRefused: undefined })
    await expectRefused(await connect(origin, '/?ticket=my-secret'))
    expect(warn.mock.calls).toEqual([['koa-sse-pool: a ticket was refused: malformed']])
  })

  test('an error thrown by onRefused goes to the app, and the answer stays 401', async () => {
    const onRefused = () => {
      throw new Error('The log is full')
    }
    const { origin, errors } = await serveTickets({ onRefused })
    await expectRefused(await connect(origin, '/?ticket=x'))
    expect(errors).toEqual([new Error('The log is full')])
  })
})

describe('a spent ticket', () => {
  test('is refused without its cookie', async () => {
    const { origin, tickets, refusals } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada' })
    expect((await connect(origin, `/?ticket=${ticket}`)).status).toBe(200)
    await expectRefused(await connect(origin, `/?ticket=${ticket}`))
    expect(refusals).toEqual(['spent'])
  })

  test('opens exactly one stream when 30 clients try it at once on three processes', async () => {
    const { servers } = await processes(3)
    const ticket = await servers[0].tickets.issue({ id: 'ada' })
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        connect(servers[i % 3]?.origin as string, `/?ticket=${ticket}`),
      ),
    )
    const statuses = answers.map(({ status }) => status).sort()
    expect(statuses).toEqual([200, ...Array(29).fill(401)])
    const refusals = servers.flatMap(({ refusals }) => refusals)
    expect(refusals).toEqual(Array(29).fill('spent'))
  })

  test('is also refused by a process that starts later and by one whose clock is slow', async () => {
    useFakeDate()
    const { log, servers } = await processes(2)
    const ticket = await servers[0].tickets.issue({ id: 'ada' })
    vi.advanceTimersByTime(29_999)
    expect((await connect(servers[0].origin, `/?ticket=${ticket}`)).status).toBe(200)
    const later = await serveTickets({}, { pool: testPool({ log: log.open() }) })
    vi.setSystemTime(Date.now() - 10_000)
    for (const { origin, refusals } of [later, servers[1]]) {
      await expectRefused(await connect(origin, `/?ticket=${ticket}`))
      expect(refusals).toEqual(['spent'])
    }
  })
})

describe('the origin', () => {
  const page = 'https://app.example'

  test.each([
    [page, 200],
    ['https://app.example.evil.example', 401],
    ['http://app.example', 401],
    ['null', 401],
    [undefined, 401],
  ])('of a ticket is compared with the header Origin: %s gets %i', async (from, status) => {
    const { origin, tickets } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada', origin: page })
    const headers: Record<string, string> = from === undefined ? {} : { Origin: from }
    expect((await connect(origin, `/?ticket=${ticket}`, { headers })).status).toBe(status)
  })

  test("is compared with the server's own if the request has no Origin header", async () => {
    const { origin, tickets } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada', origin })
    expect((await connect(origin, `/?ticket=${ticket}`)).status).toBe(200)
  })

  test('does not spend the ticket if it is wrong, and is also checked on a reconnect', async () => {
    const { origin, tickets, refusals } = await serveTickets()
    const path = `/?ticket=${await tickets.issue({ id: 'ada', origin })}`
    const headers = { Origin: page }
    await expectRefused(await connect(origin, path, { headers }))
    const client = await connect(origin, path)
    expect(client.status).toBe(200)
    const { options } = new Jar().take(client.headers)
    const back = { headers: { ...options.headers, ...headers } }
    await expectRefused(await connect(origin, path, back))
    expect(refusals).toEqual(['origin', 'origin'])
  })
})

describe('when the log is down', () => {
  test('a ticket is answered 503, and still opens a stream once the log is up', async () => {
    const { log, servers } = await processes(1)
    const [{ origin, tickets, refusals, errors, pool }] = servers
    const path = `/?ticket=${await tickets.issue({ id: 'ada' })}`
    log.state.isDown = true
    const client = await connect(origin, path)
    expect(client.status).toBe(503)
    expect(client.headers['retry-after']).toBe('5')
    expect(client.headers['set-cookie']).toBeUndefined()
    expect(pool.stats().opened).toBe(0)
    expect([...refusals, ...errors]).toEqual([])
    log.state.isDown = false
    expect((await connect(origin, path)).status).toBe(200)
  })

  test('a client that has its cookie still reconnects', async () => {
    const { log, servers } = await processes(1)
    const [{ origin, tickets }] = servers
    const path = `/?ticket=${await tickets.issue({ id: 'ada' })}`
    const { options } = new Jar().take((await connect(origin, path)).headers)
    log.state.isDown = true
    expect((await connect(origin, path, options)).status).toBe(200)
  })

  test('any other failure of the claim is an error of the app', async () => {
    const pool = { claim: () => Promise.reject(new Error('A bug')) }
    const { origin, tickets, errors } = await serveTickets({ pool })
    const client = await connect(origin, `/?ticket=${await tickets.issue({ id: 'ada' })}`)
    expect(client.status).toBe(500)
    expect(errors.map(({ message }) => message)).toEqual(['A bug'])
  })
})

test('a secret is replaced by putting a new one in front of it', async () => {
  const [old, next] = [
    'the old secret, of at least 32 bytes',
    'the new secret, of at least 32 bytes',
  ]
  const both = [next, Buffer.from(old)]
  const before = await serveTickets({ secret: old })
  const path = `/?ticket=${await before.tickets.issue({ id: 'ada' })}`
  const jar = new Jar()
  const during = await serveTickets({ secret: both })
  jar.take((await connect(during.origin, path)).headers)
  expect((await connect(during.origin, path, jar.options)).status).toBe(200)
  const fresh = `/?ticket=${await during.tickets.issue({ id: 'ada' })}`
  const after = await serveTickets({ secret: next })
  expect((await connect(after.origin, fresh)).status).toBe(200)
  await expectRefused(await connect(after.origin, path, jar.options))
  await expectRefused(await connect(before.origin, fresh))
  expect([...after.refusals, ...before.refusals]).toEqual(['signature', 'signature'])
})

describe('authorize', () => {
  test('is called for each connection, and false is a 401', async () => {
    const asked: string[] = []
    let isAllowed = true
    const authorize = async (id: string) => {
      asked.push(id)
      return isAllowed
    }
    const { origin, tickets, refusals } = await serveTickets({ authorize })
    const path = `/?ticket=${await tickets.issue({ id: 'ada' })}`
    const { options } = new Jar().take((await connect(origin, path)).headers)
    expect((await connect(origin, path, options)).status).toBe(200)
    isAllowed = false
    await expectRefused(await connect(origin, path, options))
    const fresh = `/?ticket=${await tickets.issue({ id: 'bob' })}`
    await expectRefused(await connect(origin, fresh))
    expect(asked).toEqual(['ada', 'ada', 'ada', 'bob'])
    expect(refusals).toEqual(['revoked', 'revoked'])
    isAllowed = true
    expect((await connect(origin, fresh)).status).toBe(200)
  })

  test('answers 500 if it fails', async () => {
    const authorize = () => Promise.reject(new Error('The database is down'))
    const { origin, tickets, errors } = await serveTickets({ authorize })
    const client = await connect(origin, `/?ticket=${await tickets.issue({ id: 'ada' })}`)
    expect(client.status).toBe(500)
    expect(errors.map(({ message }) => message)).toEqual(['The database is down'])
  })
})

test.each(['id', 'channels'])('redeem() together with the option %s is a TypeError', async name => {
  const served = serveTickets({}, { [name]: () => 'ada' })
  await expect(served).rejects.toThrow(TypeError)
  await expect(served).rejects.toThrow(
    `option "${name}" cannot be combined with "identify"; drop "${name}"`,
  )
})

test('the identify of redeem() can be wrapped to join more channels', async () => {
  const pool = testPool()
  const { tickets } = await serveTickets({}, { pool })
  const { identify } = tickets.redeem()
  const route = sse({
    pool,
    identify: async ctx => {
      const { id, channels } = await identify(ctx)
      return { id, channels: [...channels, `team of ${id}`] }
    },
  })
  const { origin } = await serveApp(route)
  const ticket = await tickets.issue({ id: 'ada', channels: ['orders'] })
  const client = await connect(origin, `/?ticket=${ticket}`)
  await pool.channel('orders').send('granted')
  await pool.channel('team of ada').send('added')
  await client.until(({ data }) => data.includes('added'))
  expect(client.data).toEqual(['granted', 'added'])
})

test('a ticket is redeemed once per request, by streams and long polls alike', async () => {
  const authorized: string[] = []
  const authorize = (id: string) => authorized.push(id) > 0
  const { origin, tickets, pool } = await serveTickets(
    { authorize },
    { longPoll: true, replay: 'all' },
  )
  await pool.channel('orders').send('one')
  const path = `/?ticket=${await tickets.issue({ id: 'ada', channels: ['orders'] })}`
  const poll = await connect(origin, path, { headers: { Accept: 'application/json' } })
  await poll.ended
  expect(JSON.parse(poll.text)).toMatchObject({ events: [{ data: 'one' }] })
  const client = await connect(origin, path, new Jar().take(poll.headers).options)
  await client.until(({ data }) => data.includes('one'))
  expect(authorized).toEqual(['ada', 'ada'])
})

describe('expiresAt of a grant', () => {
  test('ends the stream, and refuses the ticket and its cookie from then on', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const { origin, tickets, refusals } = await serveTickets()
    const expiresAt = new Date(Date.now() + 60_000)
    const ticket = await tickets.issue({ id: 'ada', expiresAt })
    const client = await connect(origin, `/?ticket=${ticket}`)
    const jar = new Jar().take(client.headers)
    await client.event('sse.cursor')
    vi.advanceTimersByTime(50_000)
    const tab = await connect(origin, `/?ticket=${ticket}`, jar.options)
    expect(tab.status).toBe(200)
    vi.advanceTimersByTime(11_000)
    expect(await client.ended).toBe(true)
    expect(await tab.ended).toBe(true)
    await expectRefused(await connect(origin, `/?ticket=${ticket}`, jar.options))
    expect(refusals).toEqual(['expired'])
  })

  test('must be a time; one in seconds is refused, and so is one that was forged', async () => {
    const { origin, tickets, refusals } = await serveTickets()
    await expect(tickets.issue({ id: 'ada', expiresAt: 1_764_118_000 })).rejects.toThrow(
      'issue(): "expiresAt" must be a Date or milliseconds since the epoch; got 1764118000 (number). If it is in seconds, multiply it by 1000',
    )
    await expectRefused(await connect(origin, `/?ticket=${await forge(claims({ end: 'never' }))}`))
    expect(refusals).toEqual(['malformed'])
  })
})
