/** What many runs share: an engine, and one or two pools on it, each behind an HTTP server of its own. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect as connectNats } from '@nats-io/transport-node'
import Koa from 'koa'
import {
  ClientPool,
  type Entry,
  type EventLog,
  type EventStream,
  type LogSink,
  sse,
} from 'koa-sse-pool'
import { clusterLog } from 'koa-sse-pool/cluster'
import { natsLog } from 'koa-sse-pool/nats'
import { postgresLog } from 'koa-sse-pool/postgres'
import { redisLog } from 'koa-sse-pool/redis'
import { sqliteLog } from 'koa-sse-pool/sqlite'
import { MemoryLog } from '../../src/log/memory.js'
import { ClusterWorker, newName, program } from '../helpers/cluster.js'
import { Link } from '../helpers/link.js'
import { NatsServer } from '../helpers/nats.js'
import { PostgresServer } from '../helpers/postgres.js'
import { drivers, RedisServer } from '../helpers/redis.js'
import { SqliteFolder } from '../helpers/sqlite.js'
import type { Abilities } from './commands.js'
import { type Outage, SqliteOutage } from './outage.js'

export const SITES = [
  'memory',
  'two pools',
  'cluster',
  'redis',
  'nats',
  'postgres',
  'sqlite',
] as const
export type SiteName = (typeof SITES)[number]

/** So small that a run of some commands overflows it. */
export const WINDOW = 8

/** A pool and its HTTP server, as a process would have them. */
export interface Place {
  readonly index: number
  readonly pool: ClientPool
  /** The server's socket in the file system: unlike TCP's its buffers are small, and fill up soon. */
  readonly path: string
  /** The newest stream of each client. */
  readonly streams: Map<string, EventStream>
  close(): Promise<void>
}

/** Where the logs of a site come from. */
interface Engine {
  /** For the log of one pool; undefined for the pool's own. */
  log(index: number): Promise<{ log: EventLog; close(): unknown } | undefined>
  compare(a: string, b: string): number
  /** Every process has an entry as soon as it is sent. */
  readonly isPrompt?: boolean
  readonly outage?: Outage
  /** The way to it, if it is one that can be slow. */
  readonly link?: Link
  stop(): Promise<void>
}

export class Site implements Abilities {
  readonly places: Place[] = []
  /** Errors that the pools have emitted. */
  readonly errors: Error[] = []
  readonly #engine: Engine
  readonly #folder: string
  #made = 0

  static async start(name: SiteName): Promise<Site> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-model-'))
    const site = new Site(await engines[name](), folder)
    const count = name === 'memory' ? 1 : 2
    for (let index = 0; index < count; index++) await site.renew(index)
    return site
  }

  private constructor(engine: Engine, folder: string) {
    this.#engine = engine
    this.#folder = folder
  }

  get isPrompt(): boolean {
    return this.#engine.isPrompt === true
  }

  get hasTwoPools(): boolean {
    return this.places.length > 1
  }

  get hasLink(): boolean {
    return this.link !== undefined
  }

  get hasOutages(): boolean {
    return this.outage !== undefined
  }

  get outage(): Outage | undefined {
    return this.#engine.outage ?? this.link
  }

  get link(): Link | undefined {
    return this.#engine.link
  }

  compare(a: string, b: string): number {
    return this.#engine.compare(a, b)
  }

  /** Puts a new pool in the place of one that has closed. */
  async renew(index: number): Promise<void> {
    const opened = await this.#engine.log(index)
    const pool = new ClientPool({
      log: opened?.log,
      // One of two is lean, so that both kinds of streams are seen.
      lean: index === 1,
      window: { events: WINDOW },
      pingInterval: 10,
      // A big event is more than may wait in the socket of a slow client.
      maxBufferedBytes: 128 * 1024,
      maxEventBytes: 4 * 1024 * 1024,
    })
    pool.on('error', error => this.errors.push(error))
    const streams = new Map<string, EventStream>()
    pool.on('open', stream => streams.set(stream.id, stream))
    const app = new Koa()
    const channels = (ctx: Koa.Context) => String(ctx.query.channels).split(',').filter(Boolean)
    app.use(sse({ pool, id: ctx => ctx.query.id, channels }))
    const server = http.createServer(app.callback())
    const path = join(this.#folder, `${this.#made++}`)
    server.listen(path)
    await once(server, 'listening')
    const close = async () => {
      await pool.close()
      server.close()
      server.closeAllConnections()
      await opened?.close()
    }
    this.places[index] = { index, pool, path, streams, close }
    await this.recovered()
  }

  /** Resolves once the log is in reach of all open pools, which nothing but `isReady` shows. */
  async recovered(closed: ReadonlySet<number> = new Set()): Promise<void> {
    const isReady = ({ pool, index }: Place) => pool.isReady || closed.has(index)
    while (!this.places.every(isReady)) await pause(2)
  }

  async stop(): Promise<void> {
    this.outage?.comeBack()
    await Promise.all(this.places.map(place => place.close()))
    await this.#engine.stop()
    await rm(this.#folder, { recursive: true })
  }
}

const engines: Record<SiteName, () => Promise<Engine>> = {
  async memory() {
    return {
      log: async () => undefined,
      compare: compareSequences,
      isPrompt: true,
      stop: async () => {},
    }
  },

  /** The memory log, shared as if it were an engine that answers at once. */
  async 'two pools'() {
    const log = new MemoryLog()
    const sinks = new Set<LogSink>()
    let kept: Entry[] = []
    await log.open({
      reset: entries => kept.push(...entries),
      append(entries) {
        kept = [...kept, ...entries].slice(-4 * WINDOW)
        for (const sink of sinks) sink.append(entries)
      },
      state() {},
      error() {},
    })
    const open = (): EventLog => {
      let own: LogSink
      return {
        async open(sink) {
          own = sink
          sinks.add(sink)
          sink.reset(kept, 'boot')
        },
        append: entry => log.append(entry),
        compare: (a, b) => log.compare(a, b),
        barrier: () => log.barrier(),
        async close() {
          sinks.delete(own)
        },
      }
    }
    return {
      log: async () => ({ log: open(), close: () => {} }),
      compare: compareSequences,
      isPrompt: true,
      stop: () => log.close(),
    }
  },

  /** One pool in the primary, and one whose log is in a worker. */
  async cluster() {
    const { file, remove } = await program('cluster-worker')
    const worker = await ClusterWorker.fork(file)
    const name = newName()
    return {
      async log(index) {
        const log = index === 0 ? clusterLog({ name }) : worker.log({ name })
        return { log, close: () => {} }
      },
      compare: compareSequences,
      async stop() {
        await worker.kill()
        await remove()
      },
    }
  },

  /** One pool by each driver. */
  async redis() {
    const server = await RedisServer.start()
    const link = await Link.to(server.port)
    return {
      async log(index) {
        const driver = index === 0 ? 'ioredis' : 'node-redis'
        const { client, end } = drivers[driver](`redis://127.0.0.1:${link.port}`)
        return { log: redisLog({ client, key: 'log' }), close: end }
      },
      compare: compareTimes,
      link,
      async stop() {
        link.close()
        await server.stop()
      },
    }
  },

  async nats() {
    const server = await NatsServer.start()
    const link = await Link.to(server.port)
    return {
      async log() {
        const connection = await connectNats({
          servers: `127.0.0.1:${link.port}`,
          ...{ maxReconnectAttempts: -1, reconnectTimeWait: 20, waitOnFirstConnect: true },
          // By default the driver waits 20 s if the connection is lost while it says hello.
          timeout: 1000,
        })
        // Requests whose reply is lost wait for their time to be over, even if the connection is lost meanwhile.
        const log = natsLog({ connection, stream: 'log', storage: 'memory', timeout: 1000 })
        return { log, close: () => connection.close() }
      },
      compare: compareSequences,
      link,
      async stop() {
        link.close()
        await server.stop()
      },
    }
  },

  async postgres() {
    const server = await PostgresServer.start()
    const link = await Link.to(server.port)
    await postgresLog({ pool: server.admin, table: 'log' }).createTable()
    const pool = server.pool({ port: link.port })
    return {
      async log() {
        return { log: postgresLog({ pool, table: 'log', timeout: 1000 }), close: () => {} }
      },
      compare: comparePositions,
      link,
      async stop() {
        link.close()
        await pool.end()
        await server.stop()
      },
    }
  },

  async sqlite() {
    const folder = new SqliteFolder()
    const path = folder.newFile()
    const outage = new SqliteOutage(path)
    return {
      async log() {
        // Appends that find the lock taken give up soon.
        const log = sqliteLog({ path, driver: outage.driver, timeout: 50 })
        return { log, close: () => {} }
      },
      compare: comparePositions,
      outage,
      async stop() {
        outage.comeBack()
        folder.remove()
      },
    }
  },
}

/** Ids of a table: the position is the second part. */
function comparePositions(a: string, b: string): number {
  return Number(a.split('-')[1]) - Number(b.split('-')[1])
}

/** Ids of the others but Redis begin with a number in base 36; no site has ids of two logs. */
function compareSequences(a: string, b: string): number {
  return Number.parseInt(a, 36) - Number.parseInt(b, 36)
}

/** Ids of Redis: milliseconds, and a number within the millisecond. */
function compareTimes(a: string, b: string): number {
  const [timeA, numberA] = a.split('-').map(Number) as [number, number]
  const [timeB, numberB] = b.split('-').map(Number) as [number, number]
  return timeA - timeB || numberA - numberB
}
