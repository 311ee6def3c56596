/**
 * Lets clients come and go in every way, and checks after each phase that nothing is left of them. The first
 * round fills caches and compiles the code; every later phase is compared with the end of that round.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http, { IncomingMessage, ServerResponse } from 'node:http'
import http2 from 'node:http2'
import net, { type AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import Koa from 'koa'
import { ClientPool, sse } from 'koa-sse-pool'
import { Target } from '../../src/delivery/target.js'
import { Opening } from '../../src/koa/opening.js'
import { Hub, hubOf } from '../../src/pool/hub.js'
import { Subscription } from '../../src/pool/subscription.js'
import { Stream } from '../../src/stream/stream.js'
import { Random } from '../chaos/random.js'
import { type Connect, overHttp1, overHttp2, type Visit } from './clients.js'
import { growth, type Measurement, measure } from './measure.js'

export interface SoakOptions {
  readonly transports: readonly Transport[]
  readonly connects: number
  readonly seed: number
  /** Rounds of one phase for each transport; the first is not measured. */
  readonly rounds: number
  /** Adds a leak to a pool, to see that the check finds it. */
  readonly plant?: (pool: ClientPool) => void
  /** How long what is left may take to go away, in milliseconds. */
  readonly patience?: number
  readonly print?: (line: string) => void
}

type Transport = 'http1' | 'http2' | 'lean'
const IDS = Array.from({ length: 40 }, (_, index) => `client${index}`)
const CHANNELS = Array.from({ length: 20 }, (_, index) => `channel${index}`)

/** Events that the window holds. So many broadcasts push out all that a phase has left in it. */
const WINDOW = 100

/** Clients that are connected at the same time. */
const AT_ONCE = 40

/** What V8 and the test runner themselves may add to the heap during a whole run. */
const ALLOWED_BYTES = 3 * 2 ** 20

const CLASSES = {
  Stream: Stream.prototype,
  Subscription: Subscription.prototype,
  Opening: Opening.prototype,
  Target: Target.prototype,
  Hub: Hub.prototype,
  IncomingMessage: IncomingMessage.prototype,
  ServerResponse: ServerResponse.prototype,
  Socket: net.Socket.prototype,
}

/** What happens to a stream after it has opened. Each ends it, or leaves it to be cut. */
const FATES = {
  cut: ({ visit }) => visit.cut(),
  async stall({ pool, visit, id }) {
    visit.pause()
    void pool.send(id, 'x'.repeat(100_000))
    await turn()
    visit.cut()
  },
  async join({ pool, visit, id, random }) {
    for (const stream of pool.get(id)?.streams ?? []) {
      stream.join(...random.some(CHANNELS, 3))
      stream.leave(random.pick(CHANNELS))
    }
    await turn()
    visit.cut()
  },
  async send({ pool, visit, id, random }) {
    const text = `sent${random.next()}`
    void pool.channel(random.pick(CHANNELS)).send({ data: 'c', key: `key${random.whole(1, 9)}` })
    void pool.broadcast('b', { except: random.pick(IDS) })
    void pool.send(id, text)
    // A stream whose cursor is unknown may have opened before that: its gap then skips the event.
    await visit.until(text, 'event: sse.gap')
    visit.cut()
  },
  async remove({ pool, visit, id }) {
    void pool.remove(id, { why: 'soak' })
    await visit.ended
  },
  async end({ pool, visit, id }) {
    for (const stream of pool.get(id)?.streams ?? []) stream.end('bye')
    await visit.ended
  },
} satisfies Record<string, (about: About) => void | Promise<void>>

interface About {
  readonly pool: ClientPool
  readonly visit: Visit
  readonly id: string
  readonly random: Random
}

export async function soak(options: SoakOptions): Promise<void> {
  const { transports, connects, seed, rounds, plant, patience = 20_000, print = () => {} } = options
  const random = new Random(seed)
  await using places = await serveAll(plant)
  const count = Math.ceil(connects / (rounds * transports.length))
  let base: Measurement | undefined
  for (let round = 0; round < rounds; round++) {
    for (const transport of transports) {
      const place = places.of[transport]
      await churn(place, count, random)
      place.hangUp()
      await drainOne(transport, random, plant)
      for (const { pool } of Object.values(places.of)) await quiet(pool)
      if (base === undefined) continue
      const { left, now } = await untilFlat(base, places, patience)
      print(`round ${round}, ${transport}: ${count} connects, heap ${now.heap}`)
      assert.deepEqual(left, [], `These have grown after ${count} connects over ${transport}`)
    }
    base ??= await settled(places)
  }
}

/** One pool and server for each transport; they live as long as the run. */
async function serveAll(plant: SoakOptions['plant']) {
  const stops: (() => Promise<void>)[] = []
  const serveOne = async (transport: Transport) => {
    const place = await serve(transport)
    plant?.(place.pool)
    stops.push(place.stop)
    return place
  }
  const [http1, http2, lean] = [
    await serveOne('http1'),
    await serveOne('http2'),
    await serveOne('lean'),
  ]
  return {
    of: { http1, http2, lean },
    async [Symbol.asyncDispose]() {
      for (const stop of stops) await stop()
    },
  }
}

type Places = Awaited<ReturnType<typeof serveAll>>
type Place = Awaited<ReturnType<typeof serve>>

async function serve(transport: Transport) {
  const pool = new ClientPool({
    ...{ lean: transport === 'lean', window: { events: WINDOW }, pingInterval: 1000 },
    maxStreamsPerClient: 3,
    onDuplicate: 'replace',
    maxBufferedBytes: 65_536,
    // What ends behind a client that does not read is freed after this time, and the check waits for it.
    stallTimeout: 1000,
    authorize: async () => true,
  })
  const app = new Koa()
  app.silent = true
  app.use(
    sse({
      ...{ pool, longPoll: true, maxAge: [3_000_000, 3_600_000] },
      id: ctx => ctx.query.id,
      channels: ctx => [ctx.query.channel].flat() as string[],
    }),
  )
  const isHttp2 = transport === 'http2'
  const server = isHttp2 ? http2.createServer(app.callback()) : http.createServer(app.callback())
  const sockets = new Set<net.Socket>()
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  let session: http2.ClientHttp2Session | undefined
  const sessionNow = () => {
    // Node ends a session with more than a thousand resets in a short time (CVE-2023-44487).
    if (session === undefined || session.closed || session.destroyed) {
      session = http2.connect(`http://127.0.0.1:${port}`)
      session.on('error', () => {})
    }
    return session
  }
  const connect = isHttp2 ? overHttp2(sessionNow) : overHttp1(port)
  /** Ends the connection of HTTP/2, which would otherwise last as long as the run. */
  const hangUp = () => {
    session?.destroy()
    session = undefined
  }
  const stop = async () => {
    await pool.close()
    const closed = once(server, 'close')
    server.close()
    hangUp()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  return { pool, connect, hangUp, stop }
}

/** So many visits of random clients, some at a time. */
async function churn(
  { pool, connect }: Pick<Place, 'pool' | 'connect'>,
  count: number,
  random: Random,
) {
  const cursors = new Map<string, string>()
  let left = count
  const visitors = Array.from({ length: AT_ONCE }, async () => {
    while (left > 0) {
      left -= 1
      await visitOnce(pool, connect, cursors, random)
    }
  })
  await Promise.all(visitors)
}

async function visitOnce(
  pool: ClientPool,
  connect: Connect,
  cursors: Map<string, string>,
  random: Random,
): Promise<void> {
  const id = random.pick(IDS)
  const channels = random.some(CHANNELS, 2).map(name => `&channel=${name}`)
  const cursor = random.chance(0.1) ? `none-${random.next()}` : cursors.get(id)
  const isPoll = random.chance(0.15)
  const visit = await connect(`/?id=${id}${channels.join('')}`, {
    Accept: isPoll ? 'application/json' : 'text/event-stream',
    ...(cursor !== undefined && random.chance(0.6) && { 'Last-Event-ID': cursor }),
  })
  if (isPoll) {
    // A poll with a current cursor waits for the next event, or is cut while it waits.
    if (random.chance(0.5)) void pool.send(id, 'for the poll')
    else await turn()
  } else {
    await visit.until(':ok')
    await FATES[random.pick(Object.keys(FATES) as (keyof typeof FATES)[])]({
      ...{ pool, visit, id, random },
    })
  }
  visit.cut()
  await visit.ended
  const at = visit.text.lastIndexOf('\nid: ')
  const [, last] = /^\nid: (?!sse\.)(\S+)\n/.exec(visit.text.slice(at, at + 100)) ?? []
  if (at !== -1 && last !== undefined) cursors.set(id, last)
}

/** A pool that is drained with clients in it, and then dropped: nothing may keep it. */
async function drainOne(transport: Transport, random: Random, plant: SoakOptions['plant']) {
  const place = await serve(transport)
  plant?.(place.pool)
  await churn(place, AT_ONCE, random)
  const visits = await Promise.all(
    IDS.map(id => place.connect(`/?id=${id}&channel=x`, { Accept: 'text/event-stream' })),
  )
  await Promise.all(visits.map(visit => visit.until(':ok')))
  await place.pool.close({ spread: 50 })
  await Promise.all(visits.map(({ ended }) => ended))
  await place.stop()
}

/** Waits until the last streams are closed, and pushes everything that they have left out of the window. */
async function quiet(pool: ClientPool): Promise<void> {
  for (const end = Date.now() + 20_000; pool.size > 0 || pool.stats().polls > 0; await turn()) {
    assert(Date.now() < end, `streams are left: ${JSON.stringify(pool.stats())}`)
  }
  for (let sent = 0; sent < WINDOW; sent++) await pool.broadcast('fill')
}

function measureAll({ of }: Places): Measurement {
  const roots = Object.fromEntries(
    Object.entries(of).map(([name, { pool }]) => [`${name} pool`, { hub: hubOf(pool), pool }]),
  )
  return measure({ classes: CLASSES, roots })
}

/** Measures until a measurement is like the one before it: sockets take a moment to be freed. */
async function settled(places: Places): Promise<Measurement> {
  for (let last = measureAll(places); ; ) {
    await pause(100)
    const next = measureAll(places)
    if (growth(next, last, 2 ** 16).length === 0) return next
    last = next
  }
}

async function untilFlat(base: Measurement, places: Places, patience: number) {
  for (const end = Date.now() + patience; ; await pause(100)) {
    const now = measureAll(places)
    const left = growth(base, now, ALLOWED_BYTES)
    if (left.length === 0 || Date.now() > end) return { left, now }
  }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))
