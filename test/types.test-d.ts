import Router from '@koa/router'
import Koa from 'koa'
import {
  type Channel,
  type Client,
  ClientPool,
  type Entry,
  type EventLog,
  type EventStream,
  type EventsOptions,
  type EventTargets,
  type Identity,
  type PoolEntry,
  type PoolEvent,
  type PoolOptions,
  type RouteOptions,
  type SendOptions,
  SseError,
  type StreamEvent,
  sse,
} from 'koa-sse-pool'
import {
  type GapEvent,
  PoolEventSource,
  type PoolEventSourceOptions,
  type Status,
  type StatusEvent,
} from 'koa-sse-pool/client'
import type { ClusterLogOptions } from 'koa-sse-pool/cluster'
import type { CompatOptions } from 'koa-sse-pool/compat'
import { type MetricsOptions, metrics } from 'koa-sse-pool/metrics'
import type { NatsLogOptions } from 'koa-sse-pool/nats'
import type { RedisLogOptions } from 'koa-sse-pool/redis'
import {
  type ReadOptions,
  type RunStreamOptions,
  Runs,
  type RunsOptions,
  type StartOptions,
} from 'koa-sse-pool/runs'
import type { EventLogSuiteOptions } from 'koa-sse-pool/testing'
import type { StreamTicketsOptions, TicketCookieOptions } from 'koa-sse-pool/tickets'
import { type TracingOptions, tracing } from 'koa-sse-pool/tracing'
import { register } from 'prom-client'
import { describe, expectTypeOf, test } from 'vitest'
import type { Progress } from './fixtures/events.js'

const pool = new ClientPool<Progress>()
const anyPool = new ClientPool()

describe('a typed pool', () => {
  test('takes its own events', () => {
    pool.send('ada', { event: 'update', data: { count: 42 } })
    pool.send(7, { event: 'done', data: 'ok', key: 'job', retry: 1000 })
    pool.broadcast({ event: 'done', data: 'ok' }, { except: 'ada' })
    pool.channel('jobs').send({ event: 'update', data: { count: 1 } })
    pool.broadcast({ event: 'done', data: 'ok', ttl: 1000, volatile: true }, { except: ['ada', 7] })
    pool.channels('jobs', 'mail').send({ event: 'done', data: 'ok' }, { except: [] as const })
    expectTypeOf(pool.channel('jobs').add(7)).resolves.toBeString()
    expectTypeOf(pool.channel('jobs').remove('ada')).resolves.toBeString()
    expectTypeOf(pool.send('ada', { event: 'done', data: '' })).resolves.toBeString()
    expectTypeOf(pool.get('ada')?.id).toEqualTypeOf<string | undefined>()
  })

  test('refuses a wrong event name', () => {
    // @ts-expect-error there is no event "updated"
    pool.send('ada', { event: 'updated', data: { count: 42 } })
    // @ts-expect-error nor a nameless one
    pool.broadcast({ data: 'x' })
    // @ts-expect-error nor a bare string
    pool.broadcast('x')
  })

  test('refuses a wrong payload', () => {
    // @ts-expect-error count is a number
    pool.send('ada', { event: 'update', data: { count: '42' } })
    // @ts-expect-error data is missing
    pool.channel('jobs').send({ event: 'update' })
    // @ts-expect-error nor may it be missing for several channels
    pool.channels('jobs', 'mail').send({ event: 'update' })
    // @ts-expect-error a predicate cannot travel to other processes
    pool.broadcast({ event: 'done', data: 'ok' }, { except: (id: string) => id === 'ada' })
    // @ts-expect-error the data of the other event
    pool.broadcast({ event: 'done', data: { count: 42 } })
  })

  test('refuses an id, which the log assigns', () => {
    // @ts-expect-error
    pool.send('ada', { event: 'done', data: 'ok', id: 1 })
  })
})

describe('typed runs', () => {
  const runs = new Runs<{ token: string; usage: { tokens: number } }>({ pool })

  test('take their own events, whatever those of their pool are', () => {
    runs.start('one', async run => {
      await run.append({ event: 'token', data: 'Hi' })
      await run.append({ event: 'usage', data: { tokens: 1 } })
    })
    new Runs<{ token: string }>({ pool: anyPool })
  })

  test('refuse a wrong event', () => {
    runs.start('one', async run => {
      // @ts-expect-error there is no event "tokens"
      await run.append({ event: 'tokens', data: 'Hi' })
      // @ts-expect-error the data of a token is a string
      await run.append({ event: 'token', data: 1 })
      // @ts-expect-error nor is there a nameless one
      await run.append('Hi')
      // @ts-expect-error nothing in a run supersedes anything
      await run.append({ event: 'token', data: 'Hi', key: 'a' })
    })
  })

  test('take any event if they have no types', () => {
    new Runs({ pool }).start('one', async run => {
      await run.append('Hi')
      await run.append({ data: { type: 'finish' } })
      await run.append({ event: 'whatever', data: [1] })
    })
  })
})

describe('an untyped pool', () => {
  test('takes any event', () => {
    anyPool.broadcast('text')
    anyPool.broadcast({ data: [1, 2, 3] })
    anyPool.send('ada', { event: 'whatever', data: { nested: true } })
  })
})

describe('a page with the event map of its server', () => {
  const events = new PoolEventSource<Progress>('/events', { json: true, share: true })
  const texts = new PoolEventSource<Progress>('/events')

  test('gets the data that the pool takes', () => {
    events.addEventListener('update', ({ data, lastEventId }) => {
      expectTypeOf(data).toEqualTypeOf<Progress['update']>()
      expectTypeOf(lastEventId).toBeString()
      pool.send('ada', { event: 'update', data })
    })
    events.addEventListener('done', ({ data }) => expectTypeOf(data).toBeString())
    events.addEventListener('done', { handleEvent: ({ data }) => expectTypeOf(data).toBeString() })
    const forget = ({ data }: MessageEvent<Progress['update']>) => data.count
    events.addEventListener('update', forget, { once: true })
    events.removeEventListener('update', forget)
  })

  test('cannot listen for an event that the pool does not send', () => {
    // @ts-expect-error there is no event "updated"
    events.addEventListener('updated', () => {})
    // @ts-expect-error the same without JSON
    texts.addEventListener('updated', () => {})
    // @ts-expect-error nor can it stop listening
    events.removeEventListener('updated', () => {})
  })

  test('cannot take the data for something else', () => {
    events.addEventListener('update', ({ data }) => {
      // @ts-expect-error there is no such property
      data.total
    })
    // @ts-expect-error done has a string
    events.addEventListener('done', (event: MessageEvent<{ count: number }>) => event.data.count)
  })

  test('gets text if it does not ask for JSON', () => {
    texts.addEventListener('update', ({ data }) => expectTypeOf(data).toBeString())
    new PoolEventSource<Progress>('/events', { json: false }).addEventListener('update', event => {
      expectTypeOf(event).toEqualTypeOf<MessageEvent<string>>()
    })
  })

  test('has the events of the client too', () => {
    events.addEventListener('status', event => {
      expectTypeOf(event).toEqualTypeOf<StatusEvent>()
      expectTypeOf(event.status).toEqualTypeOf(events.status)
    })
    events.addEventListener('gap', event => expectTypeOf(event).toEqualTypeOf<GapEvent>())
    events.addEventListener('open', event => expectTypeOf(event).toEqualTypeOf<Event>())
    texts.addEventListener('sse.gap', event => expectTypeOf(event.lastEventId).toBeString())
    expectTypeOf(events.status).toEqualTypeOf<Status>()
  })

  test('has onmessage with the data of the event "message"', () => {
    interface Chat {
      message: { text: string }
    }
    new PoolEventSource<Chat>('/chat', { json: true }).onmessage = event => {
      expectTypeOf(event).toEqualTypeOf<MessageEvent<Chat['message']>>()
    }
  })
})

describe('a page without an event map', () => {
  test('takes any event, as text', () => {
    const source = new PoolEventSource('/events')
    source.addEventListener('whatever', ({ data }) => expectTypeOf(data).toBeString())
    source.addEventListener('status', ({ status }) => expectTypeOf(status).toEqualTypeOf<Status>())
    source.onmessage = ({ data }) => expectTypeOf(data).toBeString()
  })

  test('takes any event, as whatever its JSON holds', () => {
    const source = new PoolEventSource(new URL('https://example.org/events'), { json: true })
    source.addEventListener('whatever', ({ data }) => expectTypeOf(data).toBeAny())
    source.onmessage = ({ data }) => expectTypeOf(data).toBeAny()
  })

  test('can stand where an EventTarget is expected', () => {
    expectTypeOf(new PoolEventSource('/events')).toExtend<EventTarget>()
  })

  test('has its options checked', () => {
    // @ts-expect-error no such option
    new PoolEventSource('/events', { shared: true })
    // @ts-expect-error a token is a header
    new PoolEventSource('/events', { headers: async () => 'Bearer x' })
    new PoolEventSource('/events', { headers: async () => ({ Authorization: 'Bearer x' }) })
  })
})

describe('ctx.sse', () => {
  test('has the events of its pool', () => {
    new Router().get('/', sse({ pool }), ctx => {
      expectTypeOf(ctx.sse).toEqualTypeOf<EventStream<Progress>>()
      ctx.sse.send({ event: 'update', data: { count: 1 } })
      // @ts-expect-error there is no event "updated"
      ctx.sse.send({ event: 'updated', data: { count: 1 } })
      // @ts-expect-error a key works only in the log
      ctx.sse.send({ event: 'done', data: 'ok', key: 'job' })
    })
  })

  test('takes anything without a typed pool', () => {
    new Router().get('/', sse({ maxClients: 2, pingInterval: 3000 }), ctx => {
      ctx.sse.send('text')
      ctx.sse.send({ event: 'x', data: 1, id: 7 })
    })
  })

  test('may be undefined with matchQuery', () => {
    new Router().get('/', sse({ pool, matchQuery: 'push' }), ctx => {
      expectTypeOf(ctx.sse).toEqualTypeOf<EventStream<Progress> | undefined>()
      // @ts-expect-error possibly undefined
      ctx.sse.send({ event: 'update', data: { count: 1 } })
      ctx.sse?.send({ event: 'update', data: { count: 1 } })
    })
  })

  test('is typed with app.use too', () => {
    new Koa().use(sse({ pool })).use(ctx => {
      expectTypeOf(ctx.sse).toEqualTypeOf<EventStream<Progress>>()
    })
  })
})

/** As `@types/koa-router` declares it: the first signature that fits is the one without inference. */
interface KoaRouter {
  get(path: string, ...middleware: Koa.Middleware<unknown, object>[]): void
  get<State, Custom>(
    path: string,
    middleware: Koa.Middleware<State, Custom>,
    handler: Koa.Middleware<State, Custom>,
  ): void
}

test('a route of koa-router takes sse(), and a handler if the type of ctx.sse is named (fault 90)', () => {
  const router = { get: () => {} } as KoaRouter
  router.get('/', sse({ pool }))
  router.get<Koa.DefaultState, { sse: EventStream<Progress> }>('/', sse({ pool }), ctx => {
    expectTypeOf(ctx.sse).toEqualTypeOf<EventStream<Progress>>()
    // @ts-expect-error there is no event "updated"
    ctx.sse.send({ event: 'updated', data: { count: 1 } })
  })
})

describe('options', () => {
  test('accept what a query holds as an id', () => {
    sse({ id: ctx => ctx.query.id, channels: () => ['news'], retry: [1000, 2000] })
    sse({ id: async () => 42 })
    // @ts-expect-error no such option
    sse({ maxClient: 2 })
    // @ts-expect-error milliseconds are a number
    new ClientPool({ pingInterval: '15s' })
    expectTypeOf(sse({ pool }).pool).toEqualTypeOf<ClientPool<Progress>>()
  })

  test('accept an engine of your own', () => {
    const log = {} as EventLog
    new ClientPool({ log })
  })
})

test('errors carry a code from a small union', () => {
  const error = new SseError('ERR_SSE_LOG_DOWN', 'down')
  expectTypeOf(error.code).extract<'ERR_SSE_CLOSED'>().toBeString()
  // @ts-expect-error no such code
  new SseError('ERR_SSE_OTHER', 'x')
})

test('the middleware also has Koa’s own type', () => {
  const one: Koa.Middleware = sse()
  const several: Koa.Middleware[] = [sse({ pool }), sse({ matchQuery: 'push' })]
  new Koa().use(one).use(several[0] as Koa.Middleware)
})

describe('a pool and its options', () => {
  test('are given to sse() one or the other', () => {
    sse({ pool, retry: 1000 })
    sse({ maxClients: 2, retry: 1000 })
    // @ts-expect-error the option belongs to the pool, which is given
    sse({ pool, maxClients: 2 })
    // @ts-expect-error the same through a variable
    sse({ ...{ pool, pingInterval: 3000 } })
  })

  test('check the names of the pool’s events and of close()', () => {
    pool.on('gap', (stream, reason) => {
      expectTypeOf(stream).toEqualTypeOf<EventStream<Progress>>()
      expectTypeOf(reason).toEqualTypeOf<'trimmed' | 'unknown' | 'replaced' | 'lagged'>()
    })
    // @ts-expect-error there is no such event
    pool.once('opne', () => {})
    // @ts-expect-error there is no such option
    pool.close({ spred: 1 })
  })

  test('are disposed of at the end of a block', async () => {
    await using own = new ClientPool()
    expectTypeOf(own.size).toBeNumber()
  })
})

test('a handler can be tested with an object of one’s own', () => {
  const sent: unknown[] = []
  const double: Pick<EventStream, 'id' | 'send' | 'isOpen' | 'channels'> = {
    id: 'ada',
    isOpen: true,
    channels: ['news'],
    send: event => sent.push(event) > 0,
  }
  double.send({ event: 'x', data: 1 })
  expectTypeOf(pool.channel('news')).toEqualTypeOf<Channel<Progress>>()
  expectTypeOf(pool.get('ada')).toEqualTypeOf<Client<Progress> | undefined>()
})

describe('an app’s own generic function', () => {
  test('relays an event by its name, and its data must be that name’s (fault 90)', () => {
    function relay<Name extends keyof Progress>(
      stream: EventStream<Progress>,
      event: Name,
      data: Progress[Name],
    ) {
      stream.send({ event, data, id: 7 })
      pool.send('ada', { event, data })
      pool.broadcast({ event, data, key: 'job' }, { except: 'ada' })
      pool.channel('jobs').send({ event, data })
      pool.get('ada')?.send({ event, data })
      // @ts-expect-error the data of one name, which need not be this one
      pool.send('ada', { event, data: { count: 1 } })
      // @ts-expect-error an id is the log's
      pool.broadcast({ event, data, id: 7 })
    }
    function relayAny<Events extends object, Name extends keyof Events & string>(
      own: ClientPool<Events>,
      event: Name,
      data: Events[Name],
    ) {
      own.broadcast({ event, data })
    }
    expectTypeOf(relay).parameter(1).toEqualTypeOf<'update' | 'done'>()
    relayAny(pool, 'done', 'ok')
    // @ts-expect-error the data of the other event
    relayAny(pool, 'done', { count: 1 })
  })

  test('passes on events of any name (fault 90)', () => {
    const forward = (event: PoolEvent<Progress>) => pool.send('ada', event)
    const answer = (stream: EventStream<Progress>, event: StreamEvent<Progress>) =>
      stream.send(event)
    expectTypeOf(forward).returns.resolves.toBeString()
    expectTypeOf(answer).returns.toBeBoolean()
  })
})

test('a double of a typed ctx.sse can record what it is sent (fault 90)', () => {
  const sent: StreamEvent<Progress>[] = []
  const double: Pick<EventStream<Progress>, 'send' | 'end'> = {
    send: (event: StreamEvent<Progress>) => sent.push(event) > 0,
    end: () => {},
  }
  double.send({ event: 'done', data: 'ok' })
  // @ts-expect-error the double is as strict as the stream
  double.send({ event: 'done', data: 1 })
})

/** The optional properties of a type that do not accept `undefined`, at any depth. */
type Strict<Given> = Given extends ((...args: never) => unknown) | Date
  ? never
  : Given extends readonly (infer Item)[]
    ? Strict<Item>
    : Given extends object
      ? {
          [Name in keyof Given & string]-?:
            | (Record<never, never> extends Pick<Given, Name>
                ? Record<Name, undefined> extends Pick<Given, Name>
                  ? never
                  : Name
                : never)
            | Strict<Given[Name]>
        }[keyof Given & string]
      : never

test('every optional property accepts undefined with exactOptionalPropertyTypes (fault 90)', () => {
  expectTypeOf<Strict<{ a?: 1; b?: { c?: 2 } | undefined; d?: 3 | undefined }>>().toEqualTypeOf<
    'a' | 'c'
  >()
  expectTypeOf<Strict<Omit<PoolOptions, 'log'>>>().toBeNever()
  expectTypeOf<Strict<RouteOptions>>().toBeNever()
  expectTypeOf<Strict<Identity>>().toBeNever()
  expectTypeOf<Strict<SendOptions>>().toBeNever()
  expectTypeOf<Strict<Exclude<StreamEvent<Progress>, string>>>().toBeNever()
  expectTypeOf<Strict<Exclude<PoolEvent<Progress>, string>>>().toBeNever()
  expectTypeOf<Strict<Entry>>().toBeNever()
  expectTypeOf<Strict<PoolEntry>>().toBeNever()
  expectTypeOf<Strict<EventTargets>>().toBeNever()
  expectTypeOf<Strict<Omit<EventsOptions, 'signal'>>>().toBeNever()
  expectTypeOf<Strict<Parameters<ClientPool['close']>[0]>>().toBeNever()
  expectTypeOf<Strict<ConstructorParameters<typeof SseError>[2]>>().toBeNever()
  expectTypeOf<Strict<CompatOptions>>().toBeNever()
  expectTypeOf<Strict<ClusterLogOptions>>().toBeNever()
  expectTypeOf<Strict<Omit<NatsLogOptions, 'connection'>>>().toBeNever()
  expectTypeOf<Strict<Omit<RedisLogOptions, 'client'>>>().toBeNever()
  expectTypeOf<Strict<Omit<PoolEventSourceOptions, 'headers' | 'body' | 'onGap'>>>().toBeNever()
  expectTypeOf<Strict<EventLogSuiteOptions>>().toBeNever()
  expectTypeOf<Strict<Omit<StreamTicketsOptions, 'pool' | 'secret' | 'secrets'>>>().toBeNever()
  expectTypeOf<Strict<TicketCookieOptions>>().toBeNever()
  expectTypeOf<Strict<Omit<RunsOptions, 'pool' | 'store'>>>().toBeNever()
  expectTypeOf<Strict<StartOptions>>().toBeNever()
  expectTypeOf<Strict<Omit<ReadOptions, 'signal'>>>().toBeNever()
  expectTypeOf<Strict<RunStreamOptions>>().toBeNever()
})

test('a pool that may be undefined is not one to make a new pool for (fault 90)', () => {
  const imported = undefined as ClientPool | undefined
  // @ts-expect-error a mistake in the order of imports, as a rule
  sse({ pool: imported })
  // @ts-expect-error
  sse({ pool: undefined })
})

describe('metrics and tracing', () => {
  test('take a pool of any events, and the register of prom-client', () => {
    expectTypeOf(metrics(pool, { register })).toEqualTypeOf<() => void>()
    expectTypeOf(metrics(anyPool, { register, name: 'chat', prefix: 'sse_' })).toEqualTypeOf<
      () => void
    >()
    expectTypeOf(tracing(pool)).toEqualTypeOf<() => void>()
    expectTypeOf(tracing(anyPool, { clientIds: true })).toEqualTypeOf<() => void>()
  })

  test('refuse something else', () => {
    // @ts-expect-error a register is needed
    metrics(pool, {})
    // @ts-expect-error this is no register
    metrics(pool, { register: new Map() })
    // @ts-expect-error there is no such option
    tracing(pool, { spans: true })
    expectTypeOf<MetricsOptions['name']>().toEqualTypeOf<string | undefined>()
    expectTypeOf<TracingOptions['clientIds']>().toEqualTypeOf<boolean | undefined>()
  })
})
