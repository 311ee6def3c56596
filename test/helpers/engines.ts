/** Every engine as a fresh log of one process, over a link as slow as the test wants. */
import { connect as connectNats } from '@nats-io/transport-node'
import type { EventLog } from 'koa-sse-pool'
import { clusterLog } from 'koa-sse-pool/cluster'
import { natsLog } from 'koa-sse-pool/nats'
import { postgresLog } from 'koa-sse-pool/postgres'
import { redisLog } from 'koa-sse-pool/redis'
import { sqliteLog } from 'koa-sse-pool/sqlite'
import { onTestFinished } from 'vitest'
import { NatsServer } from './nats.js'
import { slowLink } from './net.js'
import { PostgresServer } from './postgres.js'
import { drivers, RedisServer } from './redis.js'
import { driver, SqliteFolder } from './sqlite.js'

/** Servers that the engines need, started once for a file of tests. */
export class EngineServers {
  readonly redis: RedisServer
  readonly nats: NatsServer
  readonly postgres: PostgresServer
  readonly #folder = new SqliteFolder()
  #count = 0

  private constructor(redis: RedisServer, nats: NatsServer, postgres: PostgresServer) {
    this.redis = redis
    this.nats = nats
    this.postgres = postgres
  }

  static async start(): Promise<EngineServers> {
    return new EngineServers(
      ...(await Promise.all([RedisServer.start(), NatsServer.start(), PostgresServer.start()])),
    )
  }

  async stop(): Promise<void> {
    await Promise.all([this.redis.stop(), this.nats.stop(), this.postgres.stop()])
    this.#folder.remove()
  }

  /** The name of a log that no other test uses. */
  newName(): string {
    return `log${this.#count++}`
  }

  /** The log of this name as one more process sees it; undefined is the memory log. */
  async log(
    engine: EngineName,
    milliseconds: number,
    name = this.newName(),
  ): Promise<EventLog | undefined> {
    if (engine === 'memory') return undefined
    if (engine === 'cluster') return clusterLog({ name })
    if (engine === 'sqlite') return sqliteLog({ path: `${this.#folder.path}/${name}.db`, driver })
    if (engine === 'nats') {
      const port = await slowLink(this.nats.port, milliseconds)
      const connection = await connectNats({ servers: `127.0.0.1:${port}` })
      onTestFinished(() => connection.close())
      return natsLog({ connection, stream: name })
    }
    if (engine === 'postgres') {
      const port = await slowLink(this.postgres.port, milliseconds)
      const pool = this.postgres.pool({ port })
      onTestFinished(() => pool.end())
      const log = postgresLog({ pool, table: name })
      await log.createTable()
      return log
    }
    const port = await slowLink(this.redis.port, milliseconds)
    const { client, end } = drivers[engine](`redis://127.0.0.1:${port}`)
    onTestFinished(end)
    return redisLog({ client, key: name })
  }
}

export const ENGINES = [
  'memory',
  'cluster',
  'sqlite',
  'node-redis',
  'ioredis',
  'nats',
  'postgres',
] as const
export type EngineName = (typeof ENGINES)[number]

/** Engines that are reached over a link, which may be slow. */
export const REMOTE = ['node-redis', 'ioredis', 'nats', 'postgres'] as const
