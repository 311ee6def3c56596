/** A server process: a Koa app with a pool on the shared log that publishes what the driver orders. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import Koa from 'koa'
import { ClientPool, type SseError, sse } from '../../src/index.js'
import { Presence } from '../../src/presence/index.js'
import { Runs } from '../../src/runs/index.js'
import { connectTo, type Transaction } from './logs.js'
import type { Address, News, Order, Part, ServerConfig } from './messages.js'

const config = JSON.parse(process.argv[2] as string) as ServerConfig
const engine = connectTo(config)

const pool = new ClientPool({
  log: await engine.log('log'),
  window: { events: config.window, bytes: 256 * 1024 * 1024 },
  // Short, so that both happen in a run of a minute.
  pingInterval: 500,
  stallTimeout: 3000,
})
// Each error is also a rejection, or an outage that the driver caused.
pool.on('error', () => {})

// With a log of its own: the driver counts the entries in the windows of the other.
const presencePool = new ClientPool({
  log: await engine.log('presence'),
  // So small that a page that is away for a moment gets a gap.
  window: { events: 20 },
  pingInterval: 500,
})
presencePool.on('error', () => {})
const presence = new Presence({ pool: presencePool, grace: 500, lease: 2000 })

const store = await engine.runs?.()
const runs = store && new Runs({ pool, store, lease: 3000 })

const app = new Koa()
if (runs !== undefined) {
  const stream = runs.stream({ id: ctx => ctx.path.slice('/runs/'.length) })
  app.use((ctx, next) => (ctx.path.startsWith('/runs/') ? stream(ctx, async () => {}) : next()))
}
const members = sse({
  pool: presencePool,
  id: ctx => ctx.query.id,
  channels: ctx => String(ctx.query.rooms).split(','),
})
app.use(async (ctx, next) => {
  if (ctx.path === '/members') {
    const rooms = ['hall', 'attic', 'cellar'].map(room => {
      const list = presence.members(room).map(({ id, state }) => [id, state])
      return [room, Object.fromEntries(list)]
    })
    ctx.body = Object.fromEntries(rooms)
  } else if (ctx.path === '/presence') {
    await members(ctx as Parameters<typeof members>[0], async () => {
      for (const room of ctx.sse.channels) {
        presence.track(ctx.sse, room, Number(ctx.query.version))
      }
    })
  } else await next()
})
app.use(
  sse({
    pool,
    id: ctx => ctx.query.id,
    channels: ctx => String(ctx.query.channels).split(','),
  }),
)
// A refusal by a closing pool is no failure.
app.on('error', error => error.expose || tell({ type: 'failed', error: String(error.stack) }))

process.on('uncaughtException', error => {
  process.send?.({ type: 'failed', error: String(error.stack) } satisfies News, () =>
    process.exit(1),
  )
})
process.on('disconnect', () => process.exit())
process.on('message', async (order: Order) => {
  if (order.type === 'publish') await publish(order)
  else if (order.type === 'run') await run(order)
  else if (order.type === 'transact') await transact(order)
  else if (order.type === 'deadlock') await deadlock(order)
  else if (order.type === 'stop run') await runs?.stop(order.id).catch(() => {})
  else {
    await runs?.close({ timeout: 1000 })
    const { spread } = order
    await Promise.all([pool.close({ spread }), presencePool.close({ spread })])
    process.disconnect()
  }
})

const server = http.createServer(app.callback()).listen(0, '127.0.0.1')
await once(server, 'listening')
tell({ type: 'listening', port: (server.address() as AddressInfo).port })

async function run({ id, length }: Order & { type: 'run' }): Promise<void> {
  const report = (what: (News & { type: 'run' })['what'], count: number) =>
    tell({ type: 'run', id, what, count })
  try {
    await runs?.start(id, async run => {
      for (let n = 0; n < length && !run.signal.aborted; n++) {
        await run.append({ data: n })
        if (n % 5 === 4) {
          await run.flush()
          report('acknowledged', n + 1)
        }
        await pause(20)
      }
    })
    report('begun', 0)
  } catch {
    report('failed', 0)
  }
}

async function publish({ to, key, data, persist }: Order & { type: 'publish' }): Promise<void> {
  const { n } = data
  const event = key === undefined ? { data } : { data, key }
  let again: (() => Promise<string>) | undefined
  for (let attempt = 0; ; attempt++) {
    const wasRetried = attempt > 0
    try {
      const id = await (again ?? (() => send(to, event)))()
      return tell({ type: 'settled', n, outcome: 'acknowledged', id, wasRetried })
    } catch (thrown) {
      const { code, retry, message } = thrown as SseError
      again = retry ?? again
      if (again !== undefined && persist && attempt < 200 && code !== 'ERR_SSE_POOL_CLOSED') {
        await pause(50)
        continue
      }
      // After an uncertain attempt, a later "not stored" says nothing about the first one.
      const outcome = again === undefined ? 'rejected' : 'uncertain'
      return tell({ type: 'settled', n, outcome, wasRetried, error: `${code}: ${message}` })
    }
  }
}

async function transact({ events, ends, hold }: Order & { type: 'transact' }): Promise<void> {
  const transaction = await engine.begin?.().catch(() => undefined)
  if (transaction === undefined) return rejected(events, 'no transaction')
  try {
    const ids: string[] = []
    for (const event of events) ids.push(await sendIn(transaction, event))
    tell({ type: 'holding', n: (events[0] as Part).data.n })
    await pause(hold)
    if (ends === 'commit') return settled(events, ids, await transaction.commit())
    rejected(events, 'rolled back')
  } catch (error) {
    rejected(events, String(error))
  }
  await transaction.rollback()
}

/** Whoever waits for the other is ended by PostgreSQL, and the other one commits. */
async function deadlock({ events }: Order & { type: 'deadlock' }): Promise<void> {
  const begun = await Promise.allSettled(events.map(() => engine.begin?.()))
  const [first, second] = begun.map(one => (one.status === 'fulfilled' ? one.value : undefined))
  if (first === undefined || second === undefined) {
    await Promise.all([first?.rollback(), second?.rollback()])
    return rejected(events, 'no transaction')
  }
  const sides = [
    [first, events[0], 1, 2],
    [second, events[1], 2, 1],
  ] as const
  const prepared = await Promise.allSettled(
    sides.map(async ([transaction, event, own]) => {
      await transaction.change(own)
      return sendIn(transaction, event)
    }),
  )
  await Promise.all(
    sides.map(async ([transaction, event, , other], index) => {
      const { status } = prepared[index] as PromiseSettledResult<string>
      try {
        if (status === 'rejected') throw new Error('not prepared')
        await transaction.change(other)
        settled([event], [''], await transaction.commit())
      } catch (error) {
        rejected([event], String(error))
        await transaction.rollback()
      }
    }),
  )
}

function sendIn({ handle }: Transaction, { to, data }: Part): Promise<string> {
  return send(to, { data }, { transaction: handle })
}

function rejected(events: readonly Part[], error: string): void {
  for (const { data } of events) {
    tell({ type: 'settled', n: data.n, outcome: 'rejected', wasRetried: false, error })
  }
}

function settled(
  events: readonly Part[],
  ids: readonly string[],
  outcome: 'acknowledged' | 'rejected' | 'uncertain',
): void {
  events.forEach(({ data }, index) => {
    const id = outcome === 'acknowledged' ? ids[index] : ''
    const given = id === '' || id === undefined ? {} : { id }
    tell({ type: 'settled', n: data.n, outcome, wasRetried: false, ...given })
  })
}

function send({ kind, name, except }: Address, event: object, more: object = {}) {
  const options = except === undefined ? more : { except, ...more }
  const sent = event as { data: unknown }
  if (kind === 'client') return pool.send(name, sent, more)
  if (kind === 'channel') return pool.channel(name).send(sent, options)
  return pool.broadcast(sent, options)
}

function tell(news: News): void {
  if (process.connected) process.send?.(news)
}
