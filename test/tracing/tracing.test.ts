import http from 'node:http'
import http2 from 'node:http2'
import { context, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  AlwaysOffSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import Koa from 'koa'
import { type ClientPool, sse } from 'koa-sse-pool'
import { redisLog } from 'koa-sse-pool/redis'
import { tracing } from 'koa-sse-pool/tracing'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { parseTarget } from '../../src/log/log.js'
import { FakeLog } from '../helpers/fake-log.js'
import { connect2, session2 } from '../helpers/http2.js'
import { RedisServer } from '../helpers/redis.js'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

const TEN = Array.from({ length: 10 }, (_, i) => `client-${i}`)

beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
})

afterAll(() => context.disable())

/** A provider with the spans that it has ended. */
function provider(options = {}) {
  const exporter = new InMemorySpanExporter()
  const spanProcessors = [new SimpleSpanProcessor(exporter)]
  const tracerProvider = new BasicTracerProvider({ spanProcessors, ...options })
  const named = (name: string) => exporter.getFinishedSpans().filter(span => span.name === name)
  /** Waits until there are so many of that name. */
  const ended = async (name: string, count = 1): Promise<ReadableSpan[]> => {
    await expect.poll(() => named(name).length).toBe(count)
    return named(name)
  }
  return { tracerProvider, named, ended, all: () => exporter.getFinishedSpans() }
}

function watch(pool: ClientPool, options = {}) {
  const spans = provider()
  const stop = tracing(pool, { tracerProvider: spans.tracerProvider, ...options })
  return { ...spans, stop }
}

describe.each(['HTTP/1.1', 'HTTP/2'])('over %s', protocol => {
  test('a send has a span in the trace of the request that made it, and one delivery for all ten clients is linked to it', async () => {
    const pool = testPool()
    const { ended, tracerProvider } = watch(pool)
    const app = new Koa()
    app.use(sse({ pool, id: ctx => ctx.query.id }))
    const handler = app.callback()
    const server = protocol === 'HTTP/2' ? http2.createServer(handler) : http.createServer(handler)
    const { origin } = await listen(server)
    const session = protocol === 'HTTP/2' ? session2(origin) : undefined
    const clients = await Promise.all(
      TEN.map(async id =>
        session ? (await connect2(session, `/?id=${id}`)).client : connect(origin, `/?id=${id}`),
      ),
    )
    await ended('open stream', 10)
    const request = tracerProvider.getTracer('app').startSpan('POST /news')
    const id = await context.with(trace.setSpan(context.active(), request), () =>
      pool.broadcast({ event: 'news', data: 'é' }),
    )
    await Promise.all(clients.map(client => client.event('news')))
    const [send] = (await ended('send everyone')) as [ReadableSpan]
    expect(send.kind).toBe(SpanKind.PRODUCER)
    expect(send.parentSpanContext?.spanId).toBe(request.spanContext().spanId)
    expect(send.attributes).toMatchObject({
      'messaging.system': 'koa-sse-pool',
      'messaging.operation.type': 'send',
      'messaging.destination.name': '*',
      'messaging.message.id': id,
      'messaging.message.body.size': Buffer.byteLength('event: news\ndata: é\n\n'),
    })
    const [delivery] = (await ended('deliver everyone')) as [ReadableSpan]
    expect(delivery.kind).toBe(SpanKind.CONSUMER)
    expect(delivery.parentSpanContext).toBeUndefined()
    expect(delivery.links.map(link => link.context.spanId)).toEqual([send.spanContext().spanId])
    expect(delivery.attributes).toMatchObject({
      'messaging.message.id': id,
      'koa_sse_pool.streams': 10,
    })
    // What a browser gets is the same as without tracing.
    for (const { text } of clients) {
      expect(text).toContain(`event: news\ndata: é\nid: ${id}\n\n`)
      expect(text).not.toContain(send.spanContext().traceId)
    }
  })
})

test('an opening stream has a span in the trace of its request, and a stream that resumes a replay in it', async () => {
  const log = new FakeLog('a')
  const pool = testPool({ log })
  const { ended, tracerProvider } = watch(pool)
  const request = tracerProvider.getTracer('app').startSpan('GET /')
  const app = new Koa()
  app.use((_, next) => context.with(trace.setSpan(context.active(), request), next))
  app.use(sse({ pool, id: ctx => ctx.query.id }))
  const { origin } = await listen(http.createServer(app.callback()))
  const first = await pool.broadcast('one')
  await pool.broadcast('two')
  for (const cursor of [first, 'forged']) {
    await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': cursor } })
  }
  await connect(origin, '/?id=new')
  const opens = await ended('open stream', 3)
  expect(opens.map(({ attributes }) => attributes['koa_sse_pool.resumes'])).toEqual([
    true,
    true,
    false,
  ])
  for (const open of opens) {
    expect(open.parentSpanContext?.spanId).toBe(request.spanContext().spanId)
  }
  const replays = await ended('replay', 2)
  expect(replays.map(({ attributes }) => attributes)).toEqual([
    { 'koa_sse_pool.replay.outcome': 'resumed', 'koa_sse_pool.replay.entries': 1 },
    { 'koa_sse_pool.replay.outcome': 'gap', 'koa_sse_pool.gap.reason': 'unknown' },
  ])
  const parents = replays.map(({ parentSpanContext }) => parentSpanContext?.spanId)
  expect(parents).toEqual(opens.slice(0, 2).map(open => open.spanContext().spanId))
})

test('a stream that its handler refuses ends its span with the reason', async () => {
  const pool = testPool()
  const { ended } = watch(pool)
  const { origin } = await serveStreams({ pool }, ctx => ctx.throw(403))
  await connect(origin, '/?id=ada')
  const [span] = (await ended('open stream')) as [ReadableSpan]
  expect(span.attributes['koa_sse_pool.close.reason']).toBe('error')
  expect(span.status.code).toBe(SpanStatusCode.ERROR)
})

test('a send that the log does not store has a span with the error', async () => {
  const log = new FakeLog()
  const pool = testPool({ log })
  pool.on('error', () => {})
  const { ended, named } = watch(pool)
  log.append = () => Promise.reject(Object.assign(new Error('away'), { code: 'ERR_SSE_LOG_DOWN' }))
  await pool
    .channel('news')
    .send('x')
    .catch(() => {})
  const [span] = (await ended('send channel')) as [ReadableSpan]
  expect(span.status).toEqual({ code: SpanStatusCode.ERROR, message: 'away' })
  expect(span.attributes).toMatchObject({
    'error.type': 'ERR_SSE_LOG_DOWN',
    'messaging.destination.name': 'news',
  })
  expect(named('deliver channel')).toEqual([])
})

test('with Redis, the delivery by another process is linked to the send', async () => {
  const server = await RedisServer.start()
  onTestFinished(() => server.stop())
  const client = createClient({ url: server.url })
  const make = () => {
    const pool = testPool({ log: redisLog({ client, key: 'traced' }) })
    return { pool, ...watch(pool) }
  }
  const [sender, receiver] = [make(), make()]
  const { origin } = await serveStreams({ pool: receiver.pool })
  await expect.poll(() => sender.pool.isReady && receiver.pool.isReady).toBe(true)
  const clients = await Promise.all(TEN.map(id => connect(origin, `/?id=${id}`)))
  // Its client is left out, and the trace must not be taken for a part of its id.
  await sender.pool.broadcast({ event: 'news', data: 'x' }, { except: 'client-0' })
  await Promise.all(clients.slice(1).map(one => one.event('news')))
  await sender.pool.broadcast({ event: 'last', data: 'x' })
  await Promise.all(clients.map(one => one.event('last')))
  expect(clients.map(({ data }) => data.length)).toEqual([1, 2, 2, 2, 2, 2, 2, 2, 2, 2])
  const sends = await sender.ended('send everyone', 2)
  const deliveries = await receiver.ended('deliver everyone', 2)
  expect(deliveries.map(({ links }) => links[0]?.context.spanId)).toEqual(
    sends.map(span => span.spanContext().spanId),
  )
  expect(deliveries[0]?.links[0]?.context.isRemote).toBe(true)
  // It has no streams, so it delivers nothing.
  expect(sender.named('deliver everyone')).toEqual([])
})

test('a send that is not sampled leaves nothing in the log', async () => {
  const log = new FakeLog('a')
  const pool = testPool({ log })
  const { tracerProvider } = provider({ sampler: new AlwaysOffSampler() })
  const stop = tracing(pool, { tracerProvider })
  await pool.broadcast('x')
  stop()
  const { ended } = watch(pool)
  await pool.broadcast('y')
  const [send] = (await ended('send everyone')) as [ReadableSpan]
  const { traceId, spanId } = send.spanContext()
  expect(log.stored.map(({ target }) => target)).toEqual(['*', `*\n\t=00-${traceId}-${spanId}-01`])
  expect(send.spanContext().traceFlags).toBe(TraceFlags.SAMPLED)
})

test('a trace in the log that is no traceparent is no link, and the entry is delivered', async () => {
  const log = new FakeLog('a')
  const pool = testPool({ log })
  const { named } = watch(pool)
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await log.append({ nonce: 'n', target: '*\n\n01-nonsense', frame: 'data: x\n\n' })
  await client.until(({ data }) => data.includes('x'))
  expect(named('deliver everyone')).toEqual([])
})

test('ids of clients are in spans only if the app says so', async () => {
  for (const clientIds of [false, true]) {
    const pool = testPool()
    const { ended, all } = watch(pool, { clientIds })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada-7')
    await pool.send('ada-7', 'x')
    await client.until(({ data }) => data.length === 1)
    await pool.remove('ada-7')
    await ended('deliver client', 2)
    const attributes = JSON.stringify(all().map(span => span.attributes))
    expect(attributes.includes('ada-7')).toBe(clientIds)
    expect(all().map(({ name }) => name)).toContain('remove client')
  }
})

test('after it was stopped there are no more spans, and it can start again', async () => {
  const pool = testPool()
  const { all, stop } = watch(pool)
  expect(() => tracing(pool)).toThrow(/traced already/)
  stop()
  await pool.broadcast('x')
  expect(all()).toEqual([])
  onTestFinished(tracing(pool))
})

test.each([
  ['a wrong provider', { tracerProvider: {} }, /"tracerProvider" must be a TracerProvider/],
  ['an unknown option', { spans: true }, /unknown option "spans"/],
])('%s is a TypeError', (_, options, message) => {
  expect(() => tracing(testPool(), options as never)).toThrow(message)
})

test('the trace in a target is told from the exception', () => {
  expect(parseTarget('*\nada\n\t=00-1')).toEqual({
    ...{ kind: 'everyone', name: '', except: 'ada', trace: '00-1' },
  })
  expect(parseTarget('@ada\n\t=00-1')).toEqual({ kind: 'client', name: 'ada', trace: '00-1' })
})
