import assert from 'node:assert/strict'
import http from 'node:http'
import net, { type Socket } from 'node:net'
import fc, { type Arbitrary } from 'fast-check'
import Koa from 'koa'
import { type ClientPool, sse } from 'koa-sse-pool'
import { streamTickets } from 'koa-sse-pool/tickets'
import { expect, test } from 'vitest'
import { hubOf } from '../../src/pool/hub.js'
import { listen, testPool } from '../helpers/server.js'
import { claims, forge, SECRET } from '../helpers/tickets.js'
import { checkStream, readHead } from './answer.js'
import { corpus, fuzz, TIMEOUT, toNotation } from './runs.js'

/** Requests that are open at the same time. */
const REQUESTS_PER_CASE = 20

/** An app whose routes read everything that a request may bring, and what would have been logged. */
async function serve() {
  const pools = [testPool({ lean: false }), testPool({ lean: true })] as const
  const [pool, lean] = pools
  const tickets = streamTickets({ pool, secret: SECRET, onRefused() {} })
  const site = { allowedOrigins: ['https://app.example'], longPoll: true }
  const query = { id: (ctx: Koa.Context) => ctx.query.id, channels: channelsOf }
  const routes: Record<string, Koa.Middleware> = {
    '/event': sse({ pool, ...site, ...query }),
    '/lean': sse({ pool: lean, ...query }),
    '/ticket': sse({ pool, ...site, ...tickets.redeem() }),
    '/any': sse({ pool, ...query, accept: 'any', replay: 'all', allowedHosts: ['localhost'] }),
    '/latest': sse({ pool, ...query, replay: 'latest', overflow: 'retry', retry: 100 }),
  }
  const app = new Koa()
  const logged: string[] = []
  app.on('error', error => {
    // Koa reports what Node's parser refuses after a request that has no answer yet, on any route.
    const isKoas = String(error.code).startsWith('HPE_')
    if (!error.expose && !isKoas) logged.push(`${error.code} ${error.stack}`)
  })
  for (const pool of pools) pool.on('error', error => logged.push(String(error)))
  app.use((ctx, next) => {
    const route = Object.hasOwn(routes, ctx.path) ? routes[ctx.path] : undefined
    return route?.(ctx as Koa.ParameterizedContext, next)
  })
  const server = http.createServer(app.callback())
  return { pools, logged, server, tickets, ...(await listen(server)) }
}

function channelsOf({ query: { channel } }: Koa.Context): string[] {
  return channel === undefined ? [] : [channel].flat()
}

/** What came back for these bytes: everything up to the end of a head, or until the connection closed. */
async function exchange(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = net.connect(port, '127.0.0.1')
  const answer = await new Promise<Buffer>(resolve => {
    const got: Buffer[] = []
    const finish = () => resolve(Buffer.concat(got))
    socket.on('error', () => {})
    socket.on('data', data => {
      got.push(data)
      if (isAnswered(Buffer.concat(got))) finish()
    })
    socket.once('close', finish)
    socket.write(bytes)
    // Blank lines end a request that lacks them, and the second one is answered if the first is nothing.
    socket.write('\r\n\r\nGET /after HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  })
  await closed(socket)
  return answer
}

/** Whether the first answer has its head and, if it is a stream, its first bytes. */
function isAnswered(bytes: Buffer): boolean {
  const end = bytes.indexOf('\r\n\r\n')
  const isStream = bytes.toString('latin1', 0, end).includes('text/event-stream')
  // A stream with status 200 to HEAD has no body; what follows then is the answer to the second request.
  return end !== -1 && (!isStream || bytes.length > end + 4 || isBodiless(bytes))
}

function isBodiless(bytes: Buffer): boolean {
  return !/transfer-encoding: chunked/i.test(bytes.toString('latin1'))
}

async function closed(socket: Socket): Promise<void> {
  if (socket.closed) return
  await new Promise<void>(resolve => {
    socket.once('close', () => resolve())
    socket.destroy()
  })
}

/** Sends these requests at once, and checks the answers and that nothing is left of them. */
async function check({ pools, logged, server, port }: Served, requests: readonly Buffer[]) {
  let isOver = false
  const answers = Promise.all(requests.map(bytes => exchange(port, bytes))).finally(() => {
    isOver = true
  })
  // A long poll with a current cursor waits for the next event.
  while (!isOver) {
    for (const pool of pools) void pool.broadcast('tick')
    await turn()
  }
  const statuses: number[] = []
  for (const [index, answer] of (await answers).entries()) {
    try {
      statuses.push(checkAnswer(answer))
    } catch (error) {
      const request = toNotation(requests[index] as Buffer)
      throw new Error(`The request, as a file of the corpus:\n${request}\n\n${String(error)}`)
    }
  }
  assert(logged.length === 0, `${logged.join('\n')}\n${requests.map(toNotation).join('\n---\n')}`)
  for (const pool of pools) await nothingLeft(pool)
  await until(async () => (await connections(server)) === 0, 'connections are left')
  return statuses
}

type Served = Awaited<ReturnType<typeof serve>>

/** @returns the status; 0 for a connection that was closed without an answer. */
function checkAnswer(bytes: Buffer): number {
  const answer = readHead(bytes)
  if (answer === undefined) {
    assert.equal(bytes.length, 0, `half a head: ${toNotation(bytes)}`)
    return 0
  }
  assert.notEqual(answer.status, 500)
  if (answer.headers.get('content-type')?.startsWith('text/event-stream')) {
    if (answer.status === 200 && !isBodiless(bytes)) checkStream(bytes, answer)
  }
  return answer.status
}

async function nothingLeft(pool: ClientPool): Promise<void> {
  await until(() => {
    const { clients, streams, lean, polls, channels, parked, lagging } = pool.stats()
    return [clients, streams, lean, polls, channels, parked, lagging].every(count => count === 0)
  }, 'streams are left')
  expect(hubOf(pool).window.countTargets('@')).toBe(0)
}

async function until(condition: () => boolean | Promise<boolean>, otherwise: string) {
  for (const end = Date.now() + 20_000; !(await condition()); ) {
    assert(Date.now() < end, otherwise)
    await turn()
  }
}

const connections = (server: http.Server) =>
  new Promise<number>((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
  })

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

test.each(corpus('http'))('%s is answered or cut off, and leaves nothing', async (_, bytes) => {
  const served = await serve()
  await check(served, [bytes, bytes, Buffer.from(bytes.toString('latin1').trim(), 'latin1')])
})

test('random requests are answered or cut off, none is a 500, and no stream is left', {
  timeout: TIMEOUT,
}, async () => {
  const served = await serve()
  const forged = [await forge(claims()), await forge(claims({ exp: 1 })), 'a.b.c', '..']
  const seen = new Map<number, number>()
  await fuzz(
    `requests, ${REQUESTS_PER_CASE} at once`,
    0.1 / REQUESTS_PER_CASE,
    fc.asyncProperty(fc.array(request(forged), SIZE), async requests => {
      for (const status of await check(served, requests)) {
        seen.set(status, (seen.get(status) ?? 0) + 1)
      }
    }),
  )
  console.log('fuzz: answers by status (0 is a cut connection)', Object.fromEntries(seen))
  // If all were refused by Node's parser, the package itself would not have been tested.
  for (const status of [200, 204, 400, 403, 406]) expect(seen.get(status)).toBeGreaterThan(0)
})

const SIZE = { minLength: REQUESTS_PER_CASE, maxLength: REQUESTS_PER_CASE }

function request(tokens: readonly string[]): Arbitrary<Buffer> {
  const mostly = <Value>(usual: Value, ...others: Value[]) =>
    fc.oneof(
      { weight: 30, arbitrary: fc.constant(usual) },
      { weight: 2, arbitrary: fc.constantFrom(...others) },
    )
  const bytes = fc.oneof(
    { weight: 8, arbitrary: fc.string({ unit: 'grapheme-ascii', maxLength: 12 }) },
    {
      weight: 4,
      arbitrary: fc.constantFrom('\0', '\x7f', '\x80', '\xff', '\t', '\v', '%00', '%ff', '%zz'),
    },
    {
      weight: 4,
      arbitrary: fc.constantFrom('__proto__', "' OR 1", '../..', 'sse.end', '$', '-', '*', '.'),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom('x'.repeat(300), 'x'.repeat(7000), 'x'.repeat(20_000)),
    },
    { weight: 1, arbitrary: fc.constantFrom('\r\n\tfolded', '\n', '\r', '\r\n') },
  )
  const parameter = fc.tuple(
    fc.constantFrom('id', 'channel', 'lastEventId', 'ticket', '__proto__', 'x'),
    fc.oneof(bytes, fc.constantFrom('ada', 'news', ...tokens)),
  )
  const path = fc.oneof(
    fc.constantFrom('/event', '/lean', '/ticket', '/any', '/latest'),
    mostly('/event', '/', '//event', '*', 'x:y'),
  )
  const target = fc
    .tuple(path, fc.array(parameter, { maxLength: 3 }))
    .map(([path, pairs]) =>
      pairs.length === 0 ? path : `${path}?${pairs.map(pair => pair.join('=')).join('&')}`,
    )
  const value = (...usual: string[]) =>
    fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...usual) }, { weight: 1, arbitrary: bytes })
  const header = fc.oneof(
    fc.tuple(fc.constant('Last-Event-ID'), value('', 'sse.end', '0-abc', '1-x.2-y.latest', 'a.b')),
    fc.tuple(
      fc.constant('Accept'),
      value('application/json', 'text/*;q=0', '*/*', 'text/event-stream;q=.1,text/html', ',;q='),
    ),
    fc.tuple(
      fc.constant('Origin'),
      value('https://app.example', 'https://app.example.evil', 'null', 'http://['),
    ),
    fc.tuple(fc.constant('Host'), value('localhost', 'localhost:1', '[::1]', 'evil', '')),
    fc.tuple(
      fc.constant('Cookie'),
      value(
        ...tokens.map(token => `koa-sse-pool-AAAABBBBCCCCDDDD=${token}`),
        ...[';;=;', 'a=b; a=c', '='],
      ),
    ),
    fc.tuple(
      fc.constantFrom('Sec-Fetch-Site', 'Referer', 'X-Forwarded-Host', 'Connection', 'Expect'),
      value('cross-site', 'close', 'keep-alive, upgrade', '100-continue', 'http://%', 'x'),
    ),
    fc.tuple(
      fc.constantFrom('Access-Control-Request-Method', 'Access-Control-Request-Headers'),
      value('GET', 'last-event-id', 'a,b'),
    ),
    fc.tuple(
      fc.constantFrom('Content-Length', 'Transfer-Encoding', 'Upgrade', 'TE'),
      value('0', '5', '-1', 'chunked', 'gzip, chunked', 'websocket', '1e9'),
    ),
    fc.tuple(fc.constantFrom('X-Any', 'x', '__proto__'), bytes),
    fc.tuple(bytes, bytes),
  )
  const line = fc
    .tuple(header, mostly(': ', ':', ' : ', ':\t', '\r\n : ', ''), mostly('\r\n', '\n', '\r'))
    .map(([[name, value], separator, end]) => name + separator + value + end)
  return fc
    .record({
      method: fc.oneof(
        { weight: 9, arbitrary: fc.constantFrom('GET', 'GET', 'GET', 'HEAD', 'OPTIONS', 'POST') },
        { weight: 1, arbitrary: fc.constantFrom('get', 'TRACE', 'CONNECT', 'PRI', 'G\0T', '') },
      ),
      target,
      version: mostly('HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'HTTP/0.9', 'http/1.1', 'HTTP/1.1 ', ''),
      host: mostly('Host: localhost\r\n', ''),
      accept: fc.constantFrom(
        ...['Accept: text/event-stream\r\n', 'Accept: text/event-stream\r\n', ''],
      ),
      lines: fc.array(line, { maxLength: 4 }),
      repeats: mostly(1, 2, 50, 1500),
      end: mostly('\r\n', '', '\n\n', '\r\n0\r\n\r\n', '\0'),
    })
    .map(({ method, target, version, host, accept, lines, repeats, end }) => {
      const [first = '', ...others] = lines
      const head = `${method} ${target} ${version}\r\n${host}${accept}`
      return Buffer.from(head + first.repeat(repeats) + others.join('') + end, 'latin1')
    })
}
