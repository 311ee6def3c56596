import { type StreamTicketsOptions, streamTickets, type TicketGrant } from 'koa-sse-pool/tickets'
import { describe, expect, test } from 'vitest'
import { SECRET } from '../helpers/tickets.js'

describe('a wrong option is a TypeError that names the option, what is expected and what came', () => {
  const pool = { claim: async () => true }
  const make = (options: object) => () =>
    streamTickets({ pool, secret: SECRET, ...options } as StreamTicketsOptions)

  test.each<[object, string]>([
    [{ pool: undefined }, 'option "pool" must be a ClientPool; got undefined'],
    [{ pool: {} }, 'got an object'],
    [{ secret: undefined }, 'option "secret" must be a string or Uint8Array of at least 32 bytes'],
    [{ secret: 'hunter2' }, 'got a string of 7 bytes'],
    [{ secret: 'x'.repeat(31) }, 'openssl rand'],
    [{ secret: new Uint8Array(31) }, 'got 31 bytes'],
    [{ secret: [] }, 'got []'],
    [{ secret: [SECRET, 'hunter2'] }, 'got [a string of 41 bytes, a string of 7 bytes]'],
    [{ secret: [[SECRET]] }, 'got [[a string of 41 bytes]]'],
    [{ ttl: 0 }, 'option "ttl" must be milliseconds, a whole number from 1 to 3600000; got 0'],
    [{ ttl: '30s' }, 'got "30s"'],
    [{ ttl: 3_600_001 }, 'got 3600001'],
    [{ resumeFor: 999 }, 'option "resumeFor" must be milliseconds'],
    [{ resumeFor: true }, 'or false for no cookie'],
    [{ audience: '' }, 'option "audience" must be a string of 1 to 256 characters'],
    [{ query: 1 }, 'option "query" must be a string'],
    [{ cookie: 'sse' }, 'option "cookie" must be an object'],
    [
      { cookie: { sameSite: 'None' } },
      `cookie: option "sameSite" must be 'lax', 'strict' or 'none'`,
    ],
    [{ cookie: { name: 'a b' } }, 'cookie: option "name" must be letters'],
    [{ cookie: { path: '/a; Domain=x' } }, 'cookie: option "path" must be a path'],
    [{ cookie: { path: 'event' } }, 'got "event"'],
    [{ cookie: { partitioned: 1 } }, 'cookie: option "partitioned" must be a boolean'],
    [{ cookie: { samesite: 'lax' } }, 'did you mean "sameSite"?'],
    [{ authorize: true }, 'option "authorize" must be a function'],
    [{ onRefused: 'log' }, 'option "onRefused" must be a function'],
    [{ secrets: [] }, 'unknown option "secrets"; did you mean "secret"?'],
  ])('streamTickets(%j)', (options, message) => {
    expect(make(options)).toThrow(TypeError)
    expect(make(options)).toThrow(/^streamTickets\(\)/)
    expect(make(options)).toThrow(message)
    expect(make(options)).not.toThrow('hunter2')
  })

  test('streamTickets() without options is a TypeError', () => {
    expect(() => streamTickets(undefined as never)).toThrow('options must be an object')
  })

  test.each<[unknown, string]>([
    [undefined, 'A client id must be'],
    [{}, 'A client id must be'],
    [{ id: '' }, 'A client id must be'],
    [{ id: 'a\nb' }, 'without controls'],
    [
      { id: 'ada', channels: 'orders' },
      '"channels" must be an array of channel names; got "orders"',
    ],
    [{ id: 'ada', channels: [''] }, 'channel must not be empty'],
    [{ id: 'ada', channels: ['sse.x'] }, 'reserved'],
    [
      { id: 'ada', origin: 'app.example' },
      `"origin" must be an origin such as 'https://app.example'`,
    ],
    [{ id: 'ada', origin: 'https://app.example/' }, 'without a path'],
    [{ id: 'ada', origin: '' }, 'got ""'],
    [{ id: 'ada', chanels: [] }, 'did you mean "channels"?'],
  ])('issue(%j) is a TypeError', async (grant, message) => {
    const issued = make({})().issue(grant as TicketGrant)
    await expect(issued).rejects.toThrow(TypeError)
    await expect(issued).rejects.toThrow(message)
  })

  test('issue() with more channels than fit into a URL is a TypeError that says what to do', async () => {
    const channels = Array.from({ length: 300 }, (_, i) => `channel ${i}`)
    const issued = make({})().issue({ id: 'ada', channels })
    await expect(issued).rejects.toThrow(
      /^issue\(\): the ticket must not be longer than 4096 characters, .+; got \d+\. Grant fewer channels/,
    )
  })
})
