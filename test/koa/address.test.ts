/** Which address a request counts for, and what happens beyond the limits of one. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Context } from 'koa'
import type { PoolOptions, RouteOptions } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { addressOf, networkOf } from '../../src/koa/address.js'
import { nextOpen } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['192.0.2.1:4711', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:c000:0201', '192.0.2.1'],
  ['[::ffff:192.0.2.1]:80', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:0DB8:0001:0002::', '2001:db8:1:2::/64'],
  ['[2001:db8:1:2::9]:4711', '2001:db8:1:2::/64'],
  ['[2001:db8:1:2::9]', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['::', '0:0:0:0::/64'],
  ['1:2:3:4:5:6:7::', '1:2:3:4::/64'],
  ['', undefined],
  ['unknown', undefined],
  ['192.0.2.999', undefined],
  ['_hidden', undefined],
  ['[evil]:80', undefined],
])('the address %j counts as %j', (given, expected) => {
  expect(networkOf(given)).toBe(expected)
})

test('an address does not keep the header in memory that it was in', () => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const kept: unknown[] = []
  gc()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 1000; i++) {
    const header = Buffer.alloc(20_000, `${i},`).toString('latin1')
    for (const address of ['192.168.100.200', '2001:db8:1:2::9']) {
      kept.push(networkOf(`${header}${address}`.slice(20_000)))
    }
  }
  gc()
  expect(kept).toHaveLength(2000)
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(5_000_000)
})

describe('behind proxies', () => {
  const seen = (
    proxies: number,
    forwarded: string,
    remoteAddress: string | undefined = '10.0.0.9',
  ) =>
    addressOf(
      { req: { socket: { remoteAddress } }, get: () => forwarded } as unknown as Context,
      proxies,
    )

  test.each([
    [0, '1.1.1.1', '10.0.0.9'],
    [1, '6.6.6.6, 1.1.1.1', '1.1.1.1'],
    [1, '1.1.1.1', '1.1.1.1'],
    [2, '6.6.6.6,2.2.2.2 , 10.0.0.1', '2.2.2.2'],
    [2, '2.2.2.2', '2.2.2.2'],
    [1, '6.6.6.6, unknown', '10.0.0.9'],
    [1, '', '10.0.0.9'],
    [1, `${'6.6.6.6,'.repeat(1000)}1.1.1.1`, '1.1.1.1'],
  ])('%d of them, X-Forwarded-For is read from the right: %s', (proxies, forwarded, expected) => {
    expect(seen(proxies, forwarded)).toBe(expected)
  })

  test('and on a Unix socket, which has no address of its own', () => {
    const socket = { req: { socket: {} }, get: () => '6.6.6.6, 1.1.1.1' } as unknown as Context
    expect(addressOf(socket, 0)).toBeUndefined()
    expect(addressOf(socket, 1)).toBe('1.1.1.1')
  })
})

describe('a client beyond the limit of its address', () => {
  const from = (address: string) => ({ headers: { 'X-Forwarded-For': `6.6.6.6, ${address}` } })

  async function serve(options: PoolOptions, route: RouteOptions = {}) {
    const pool = testPool({ trustedProxies: 1, ...options })
    const asked: unknown[] = []
    const id: RouteOptions['id'] = ctx => {
      asked.push(ctx.query.id)
      return ctx.query.id
    }
    return { pool, asked, ...(await serveStreams({ id, ...route, pool })) }
  }

  test('of streams gets 429 with Retry-After, and is counted, until one of them is over', async () => {
    const { pool, origin, asked } = await serve({ maxStreamsPerAddress: 1 })
    const opened = nextOpen(pool)
    const client = await connect(origin, '/?id=ada', from('2001:db8::1'))
    const refused = await connect(origin, '/?id=bob', from('2001:db8::2'))
    expect(refused.status).toBe(429)
    expect(Number(refused.headers['retry-after'])).toBeGreaterThanOrEqual(2)
    await refused.ended
    expect(refused.text).toBe('Too many streams from this address; try again later')
    expect(asked).toEqual(['ada'])
    expect((await connect(origin, '/?id=bob', from('192.0.2.1'))).status).toBe(200)
    client.close()
    await (await opened).closed
    expect((await connect(origin, '/?id=bob', from('2001:db8::2'))).status).toBe(200)
    expect(pool.stats().refused).toMatchObject({ address: 1, rate: 0, full: 0 })
  })

  test('cannot get past it while its requests are being identified', async () => {
    let go = () => {}
    const all = new Promise<void>(resolve => {
      go = resolve
    })
    let waiting = 0
    const { origin } = await serve(
      { maxStreamsPerAddress: 1 },
      {
        id: async ctx => {
          waiting += 1
          if (waiting === 3) go()
          await all
          return ctx.query.id
        },
      },
    )
    const paths = ['/?id=a', '/?id=b', '/?id=c']
    const clients = await Promise.all(paths.map(path => connect(origin, path, from('192.0.2.1'))))
    expect(clients.map(({ status }) => status).sort()).toEqual([200, 429, 429])
  })

  test('by long polls is refused too, until they are answered', async () => {
    const { pool, origin } = await serve({ maxStreamsPerAddress: 1 }, { longPoll: true })
    const cursor = await pool.broadcast('before')
    const { headers } = from('192.0.2.1')
    const poll = () =>
      fetch(`${origin}/?id=ada&lastEventId=${cursor}`, {
        headers: { ...headers, Accept: 'application/json' },
      })
    const first = poll()
    while (pool.stats().polls === 0) await new Promise(setImmediate)
    expect((await poll()).status).toBe(429)
    await pool.broadcast('after')
    expect((await first).status).toBe(200)
    expect((await poll()).status).toBe(200)
  })

  test('of the rate gets 429 before it is identified', async () => {
    const { pool, origin, asked } = await serve({ connectRate: 0.1 })
    expect((await connect(origin, '/?id=ada', from('192.0.2.1'))).status).toBe(200)
    expect((await connect(origin, '/?id=bob', from('192.0.2.1'))).status).toBe(429)
    expect((await connect(origin, '/?id=eve', from('192.0.2.2'))).status).toBe(200)
    expect(asked).toEqual(['ada', 'eve'])
    expect(pool.stats().refused).toMatchObject({ address: 0, rate: 1 })
  })

  test("comes back with overflow: 'retry'", async () => {
    const { origin } = await serve({ maxStreamsPerAddress: 1 }, { overflow: 'retry' })
    await connect(origin, '/?id=ada', from('192.0.2.1'))
    const refused = await connect(origin, '/?id=bob', from('192.0.2.1'))
    expect(refused.status).toBe(200)
    await refused.ended
    expect(refused.text).toMatch(/^:address\nretry: \d+\n$/)
  })

  test('is told by its socket without trusted proxies, whatever it forwards', async () => {
    const { origin } = await serve({ maxStreamsPerAddress: 1, trustedProxies: 0 })
    await connect(origin, '/?id=ada', from('192.0.2.1'))
    expect((await connect(origin, '/?id=bob', from('192.0.2.2'))).status).toBe(429)
  })
})
