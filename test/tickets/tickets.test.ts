import type { StreamTicketsOptions } from 'koa-sse-pool/tickets'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
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

/** So many processes on one log, each with its server and the same secret. */
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
  test('opens a stream with its id and its channels', async () => {
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

  test('fits into a URL as it is, and says nothing in clear but what it grants', async () => {
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

  test('is good for its time, and no longer', async () => {
    useFakeDate()
    const { origin, tickets, refusals } = await serveTickets()
    const [early, late] = [await tickets.issue({ id: 'ada' }), await tickets.issue({ id: 'ada' })]
    vi.advanceTimersByTime(29_999)
    expect((await connect(origin, `/?ticket=${early}`)).status).toBe(200)
    vi.advanceTimersByTime(1)
    await expectRefused(await connect(origin, `/?ticket=${late}`))
    expect(refusals).toEqual(['expired'])
  })

  test('takes the time and the name that the app gives', async () => {
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

  test('may come from a process whose clock is some seconds ahead', async () => {
    useFakeDate()
    const { origin, tickets, refusals } = await serveTickets()
    const [near, far] = [await tickets.issue({ id: 'ada' }), await tickets.issue({ id: 'ada' })]
    vi.setSystemTime(Date.now() - 4000)
    expect((await connect(origin, `/?ticket=${near}`)).status).toBe(200)
    vi.setSystemTime(Date.now() - 2000)
    await expectRefused(await connect(origin, `/?ticket=${far}`))
    expect(refusals).toEqual(['not-yet-valid'])
  })

  test('is not used up by a question for the headers, nor by a full pool', async () => {
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

describe('whatever is wrong, the client learns nothing but 401, and the app why', () => {
  const signed =
    (changes?: Record<string, unknown>, header?: object, secret?: string) => async () =>
      `ticket=${await forge(claims(changes), header, secret)}`
  const seconds = () => Date.now() / 1000
  const parts = async () => (await forge(claims())).split('.') as [string, string, string]
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

  const MISUSES: [what: string, why: string, query: () => Promise<string> | string][] = [
    ['no ticket', 'missing', () => ''],
    ['an empty one', 'missing', () => 'ticket='],
    ['two of them', 'repeated', async () => `${await signed()()}&${await signed()()}`],
    ['10 KB', 'too-long', () => `ticket=${'a'.repeat(10_240)}`],
    ['4097 characters', 'too-long', () => `ticket=${'a'.repeat(4097)}`],
    ['no token', 'malformed', () => 'ticket=hello'],
    ['three parts of nothing', 'malformed', () => 'ticket=..'],
    ['controls and the like', 'malformed', () => 'ticket=%00.%0d%0a.%f0%9f%98%80'],
    ['an encrypted token', 'malformed', () => 'ticket=a.b.c.d.e'],
    ['another secret', 'signature', signed({}, {}, 'another secret that has 32 bytes or more')],
    [
      'a changed claim',
      'signature',
      async () => {
        const [header, , signature] = await parts()
        return `ticket=${header}.${encode(claims({ sub: 'root' }))}.${signature}`
      },
    ],
    [
      'another signature',
      'signature',
      async () => {
        const [header, payload] = await parts()
        return `ticket=${header}.${payload}.${'A'.repeat(43)}`
      },
    ],
    ['no signature', 'signature', async () => `ticket=${(await parts()).slice(0, 2).join('.')}.`],
    [
      'alg none',
      'algorithm',
      async () => `ticket=${encode({ alg: 'none', typ: 'sse-ticket' })}.${encode(claims())}.`,
    ],
    [
      'alg RS256',
      'algorithm',
      async () => `ticket=${encode({ alg: 'RS256' })}.${encode(claims())}.${'A'.repeat(43)}`,
    ],
    [
      'alg HS512 with the right secret',
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
    ['a token without type', 'malformed', signed({}, { typ: undefined })],
    ['another audience', 'audience', signed({ aud: 'somebody else' })],
    ['several audiences', 'malformed', signed({ aud: ['koa-sse-pool'] })],
    ['no audience', 'malformed', signed({ aud: undefined })],
    ['no end', 'malformed', signed({ exp: undefined })],
    ['an end that is no number', 'malformed', signed({ exp: '9999999999' })],
    ['no id', 'malformed', signed({ sub: undefined })],
    ['an id that is no string', 'malformed', signed({ sub: { toString: 'ada' } })],
    ['channels that are none', 'malformed', signed({ ch: 'orders' })],
    ['a channel that is no string', 'malformed', signed({ ch: [1] })],
    ['no jti', 'malformed', signed({ jti: undefined })],
    ['a jti that would end a cookie', 'malformed', signed({ jti: 'a=b; Domain=evil' })],
    ['an end in the past', 'expired', signed({ exp: seconds() - 1 })],
    ['a beginning in the future', 'not-yet-valid', signed({ nbf: seconds() + 60 })],
    ['a birth in the future', 'not-yet-valid', signed({ iat: seconds() + 60 })],
    ['another origin', 'origin', signed({ org: 'https://elsewhere.example' })],
  ]

  test.each(MISUSES)('%s', async (_, why, query) => {
    const { origin, pool, refusals, errors } = await serveTickets()
    await expectRefused(await connect(origin, `/?${await query()}`))
    expect(refusals).toEqual([why])
    expect(errors).toEqual([])
    expect(pool.stats().opened).toBe(0)
  })

  test('a body that is signed but is no object', async () => {
    const { origin, refusals } = await serveTickets()
    for (const body of [[], null, 'text']) {
      await expectRefused(await connect(origin, `/?ticket=${await forge(body)}`))
    }
    await expectRefused(await connect(origin, `/?ticket=${await forgeText('no JSON')}`))
    expect(refusals).toEqual(['malformed', 'malformed', 'malformed', 'malformed'])
  })

  test('a cookie in place of a ticket, and a ticket in place of a cookie', async () => {
    const { origin, tickets, refusals } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada' })
    const { cookies } = new Jar().take((await connect(origin, `/?ticket=${ticket}`)).headers)
    const [[name, value]] = cookies as Iterable<[string, string]> as [[string, string]]
    await expectRefused(await connect(origin, `/?ticket=${value}`))
    const headers = { Cookie: `${name}=${ticket}` }
    await expectRefused(await connect(origin, `/?ticket=${ticket}`, { headers }))
    expect(refusals).toEqual(['malformed', 'cookie'])
  })

  test('by default the reason is a warning that does not show the ticket', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    onTestFinished(() => warn.mockRestore())
    const { origin } = await serveTickets({ onRefused: undefined })
    await expectRefused(await connect(origin, '/?ticket=my-secret'))
    expect(warn.mock.calls).toEqual([['koa-sse-pool: a ticket was refused: malformed']])
  })

  test('a listener that throws changes nothing', async () => {
    const onRefused = () => {
      throw new Error('The log is full')
    }
    const { origin, errors } = await serveTickets({ onRefused })
    await expectRefused(await connect(origin, '/?ticket=x'))
    expect(errors).toEqual([new Error('The log is full')])
  })
})

describe('a spent ticket', () => {
  test('is refused', async () => {
    const { origin, tickets, refusals } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada' })
    expect((await connect(origin, `/?ticket=${ticket}`)).status).toBe(200)
    await expectRefused(await connect(origin, `/?ticket=${ticket}`))
    expect(refusals).toEqual(['spent'])
  })

  test('was redeemed by one of all who tried at once on three processes', async () => {
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

  test('stays so for a process that starts later, and for one whose clock lags', async () => {
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
  ])('of a page is %s: %i', async (from, status) => {
    const { origin, tickets } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada', origin: page })
    const headers: Record<string, string> = from === undefined ? {} : { Origin: from }
    expect((await connect(origin, `/?ticket=${ticket}`, { headers })).status).toBe(status)
  })

  test("is the server's own where the browser names none", async () => {
    const { origin, tickets } = await serveTickets()
    const ticket = await tickets.issue({ id: 'ada', origin })
    expect((await connect(origin, `/?ticket=${ticket}`)).status).toBe(200)
  })

  test('that is wrong does not spend the ticket, and counts for those who come back too', async () => {
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
  test('a ticket is no free pass: 503, and later good again', async () => {
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

  test('who has the cookie still comes back', async () => {
    const { log, servers } = await processes(1)
    const [{ origin, tickets }] = servers
    const path = `/?ticket=${await tickets.issue({ id: 'ada' })}`
    const { options } = new Jar().take((await connect(origin, path)).headers)
    log.state.isDown = true
    expect((await connect(origin, path, options)).status).toBe(200)
  })

  test('what is no failure of the log is an error of the app', async () => {
    const pool = { claim: () => Promise.reject(new Error('A bug')) }
    const { origin, tickets, errors } = await serveTickets({ pool })
    const client = await connect(origin, `/?ticket=${await tickets.issue({ id: 'ada' })}`)
    expect(client.status).toBe(500)
    expect(errors.map(({ message }) => message)).toEqual(['A bug'])
  })
})

test('secrets are changed by putting a new one in front', async () => {
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
  test('is asked each time, and its no is a 401', async () => {
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

  test('that fails lets nobody in', async () => {
    const authorize = () => Promise.reject(new Error('The database is down'))
    const { origin, tickets, errors } = await serveTickets({ authorize })
    const client = await connect(origin, `/?ticket=${await tickets.issue({ id: 'ada' })}`)
    expect(client.status).toBe(500)
    expect(errors.map(({ message }) => message)).toEqual(['The database is down'])
  })
})

test('the channels of a ticket are known only with its id', async () => {
  const { origin, tickets, errors } = await serveTickets({}, { id: () => 'ada' })
  const client = await connect(origin, `/?ticket=${await tickets.issue({ id: 'ada' })}`)
  expect(client.status).toBe(500)
  expect(errors[0]?.message).toContain('when the "id" next to them was asked')
})
