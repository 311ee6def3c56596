/**
 * Delivers millions of events to clients whose connections are cut at random, also in the middle of an event, and
 * compares what each client got with the log: every event that was sent to it, once, in the order of the log. The
 * window holds far more than a round sends, so a gap is a fault too.
 */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import Koa from 'koa'
import { ClientPool, type EventLog, sse } from 'koa-sse-pool'
import { redisLog } from 'koa-sse-pool/redis'
import { Places } from '../chaos/place.js'
import { Random } from '../chaos/random.js'
import { drivers, RedisServer } from '../helpers/redis.js'

export interface DeliveriesOptions {
  readonly engine: EngineName
  /** The run ends with the round in which so many events have reached a client. */
  readonly deliveries: number
  readonly seed: number
  readonly print?: (line: string) => void
}

export interface DeliveriesReport {
  deliveries: number
  sends: number
  reconnects: number
  lost: number
  doubled: number
  misplaced: number
  gaps: number
}

export type EngineName = 'memory' | 'redis'

const CLIENTS = Array.from({ length: 200 }, (_, index) => `client${index}`)
const CHANNELS = Array.from({ length: 8 }, (_, index) => `channel${index}`)
const SENDS_PER_ROUND = 2000
/** Sends between two turns of the event loop. */
const SENDS_PER_SLICE = 20
/** Connections that are cut in each slice: one in about 500 deliveries. */
const CUTS_PER_SLICE = 6
const WINDOW = 10_000

/** How long the clients may take to catch up after a round, in milliseconds. */
const PATIENCE_MS = 60_000

interface Sent {
  readonly n: number
  readonly target: string
  readonly id: string
}

export async function deliver(options: DeliveriesOptions): Promise<DeliveriesReport> {
  const { engine, deliveries, seed, print = () => {} } = options
  const random = new Random(seed)
  const report = {
    deliveries: 0,
    sends: 0,
    reconnects: 0,
    lost: 0,
    doubled: 0,
    misplaced: 0,
    gaps: 0,
  }
  await using site = await open(engine)
  const { pools, ports } = site
  const clients = CLIENTS.map(name => new Client(name, random, ports))
  try {
    await Promise.all(clients.map(client => client.connect()))
    // A client that is cut before it has a cursor has nothing to resume from.
    await soon(Promise.all(clients.map(client => client.until(({ cursor }) => cursor !== ''))))
    for (let round = 1; report.deliveries < deliveries; round++) {
      const sends: Promise<Sent>[] = []
      const send = (target: string) => {
        const n = report.sends++
        const sent = sendTo(random.pick(pools), target, `${n}`)
        sends.push(sent.then(id => ({ n, target, id })))
        return sent
      }
      while (sends.length < SENDS_PER_ROUND) {
        const slice = Array.from({ length: SENDS_PER_SLICE }, () => send(pickTarget(random)))
        for (const client of random.some(clients, CUTS_PER_SLICE)) client.cut(random.chance(0.5))
        await Promise.all(slice)
        await new Promise(resolve => setImmediate(resolve))
      }
      const last = await send('*')
      const isThere = ({ cursor }: Client) => cursor === last
      // A client that misses the last event gets its id by a heartbeat, and is judged by what it has.
      await soon(Promise.all(clients.map(client => client.until(isThere))))
      const log = (await Promise.all(sends)).sort((a, b) => order(engine, a.id, b.id))
      for (const client of clients) client.settle(log, report)
      report.reconnects = clients.reduce((sum, { connects }) => sum + connects - 1, 0)
      if (round % 50 === 0) print(`round ${round}: ${JSON.stringify(report)}`)
      if (report.lost + report.doubled + report.misplaced + report.gaps > 0) break
    }
    return report
  } finally {
    for (const client of clients) client.close()
  }
}

function pickTarget(random: Random): string {
  const way = random.next()
  if (way < 0.7) return '*'
  return way < 0.9 ? `#${random.pick(CHANNELS)}` : `@${random.pick(CLIENTS)}`
}

function sendTo(pool: ClientPool, target: string, data: string): Promise<string> {
  const name = target.slice(1)
  if (target === '*') return pool.broadcast(data)
  return target.startsWith('#') ? pool.channel(name).send(data) : pool.send(name, data)
}

/** The order of two entries of the log, read from their ids without the code of the engines. */
const places = new Places('redis')

function order(engine: EngineName, a: string, b: string): number {
  if (engine === 'memory') return Number.parseInt(a, 36) - Number.parseInt(b, 36)
  const [x, y] = [places.of(a), places.of(b)]
  return x.major - y.major || x.minor - y.minor
}

/** One pool, or one by each driver on the same Redis, each behind a server of its own. */
async function open(engine: EngineName) {
  const ends: (() => unknown)[] = []
  const logs: (EventLog | undefined)[] = [undefined]
  if (engine === 'redis') {
    const server = await RedisServer.start()
    ends.push(() => server.stop())
    logs.length = 0
    for (const connect of Object.values(drivers)) {
      const { client, end } = connect(server.url)
      ends.push(end)
      logs.push(redisLog({ client, key: 'log', maxEntries: WINDOW }))
    }
  }
  const pools: ClientPool[] = []
  const ports: number[] = []
  for (const [index, log] of logs.entries()) {
    // Short heartbeats, so that clients soon have a cursor. One of two pools is lean: both kinds are seen.
    const window = { events: WINDOW }
    const pool = new ClientPool({ log, window, lean: index === 1, pingInterval: 1000 })
    const app = new Koa()
    const channels = (ctx: Koa.Context) => String(ctx.query.channels).split(',')
    app.use(sse({ pool, id: ctx => ctx.query.id, channels }))
    const server = http.createServer(app.callback()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    ends.push(async () => {
      await pool.close()
      server.close()
      server.closeAllConnections()
    })
    pools.push(pool)
    ports.push((server.address() as AddressInfo).port)
  }
  return {
    ...{ pools, ports },
    async [Symbol.asyncDispose]() {
      for (const end of ends.reverse()) await end()
    },
  }
}

class Client {
  cursor = ''
  connects = 0
  readonly #name: string
  readonly #channels: readonly string[]
  readonly #random: Random
  readonly #ports: readonly number[]
  #got: number[] = []
  #gaps = 0
  #request: http.ClientRequest | undefined
  #isToBeCutInMidEvent = false
  #check = () => {}

  constructor(name: string, random: Random, ports: readonly number[]) {
    this.#name = name
    this.#channels = random.some(CHANNELS, 2)
    this.#random = random
    this.#ports = ports
  }

  async connect(): Promise<void> {
    this.connects += 1
    this.#isToBeCutInMidEvent = false
    const query = new URLSearchParams({ id: this.#name, channels: this.#channels.join(',') })
    const request = http.get({
      ...{ host: '127.0.0.1', port: this.#random.pick(this.#ports), path: `/?${query}` },
      ...{ agent: false, headers: this.cursor === '' ? {} : { 'Last-Event-ID': this.cursor } },
    })
    this.#request = request
    request.on('error', () => {})
    const [response] = (await once(request, 'response').catch(() => [])) as [http.IncomingMessage?]
    if (response === undefined || this.#request !== request) return
    response.on('error', () => {})
    const parser = createParser({ onEvent: event => this.#take(event) })
    response.setEncoding('latin1')
    response.on('data', (text: string) => {
      if (this.#request !== request) return
      if (!this.#isToBeCutInMidEvent) return parser.feed(text)
      parser.feed(text.slice(0, this.#random.whole(0, text.length - 1)))
      this.cut(false)
    })
  }

  /** Cuts the connection now, or somewhere in what comes next, and reconnects at once. */
  cut(inMidEvent: boolean): void {
    if (inMidEvent) {
      this.#isToBeCutInMidEvent = true
      return
    }
    this.#request?.destroy()
    void this.connect()
  }

  close(): void {
    this.#request?.destroy()
    this.#request = undefined
  }

  /** Resolves as soon as the condition holds; it is checked after each event. */
  until(condition: (client: Client) => boolean): Promise<void> {
    return new Promise(resolve => {
      this.#check = () => {
        if (condition(this)) resolve()
      }
      this.#check()
    })
  }

  /** Compares what came in this round with the part of the log that was for this client. */
  settle(log: readonly Sent[], report: DeliveriesReport): void {
    const targets = new Set(['*', `@${this.#name}`, ...this.#channels.map(name => `#${name}`)])
    const due = log.filter(({ target }) => targets.has(target)).map(({ n }) => n)
    const { lost, doubled, misplaced } = differences(due, this.#got)
    report.deliveries += this.#got.length
    report.lost += lost
    report.doubled += doubled
    report.misplaced += misplaced
    report.gaps += this.#gaps
    this.#got = []
  }

  #take({ event, data, id }: EventSourceMessage): void {
    if (id !== undefined) this.cursor = id
    if (event === 'sse.gap') this.#gaps += 1
    else if (event !== 'sse.cursor') this.#got.push(Number(data))
    this.#check()
  }
}

/** How many are missing, came again, or came where they should not. */
export function differences(due: readonly number[], got: readonly number[]) {
  const places = new Map(due.map((n, index) => [n, index]))
  const seen = new Set<number>()
  let reached = -1
  let [doubled, misplaced] = [0, 0]
  for (const n of got) {
    const place = places.get(n)
    if (seen.has(n)) doubled += 1
    else if (place === undefined || place < reached) misplaced += 1
    else reached = place
    seen.add(n)
  }
  return { lost: due.filter(n => !seen.has(n)).length, doubled, misplaced }
}

async function soon(promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Not within ${PATIENCE_MS} ms`)), PATIENCE_MS)
  })
  await Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
