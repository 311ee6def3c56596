/** Every engine as a fresh log of one process, over a link as slow as the test wants. */
import { connect as connectNats } from '@nats-io/transport-node'
import type { EventLog } from 'koa-sse-pool'
import { clusterLog } from 'koa-sse-pool/cluster'
import { natsLog } from 'koa-sse-pool/nats'
import { redisLog } from 'koa-sse-pool/redis'
import { onTestFinished } from 'vitest'
import { NatsServer } from './nats.js'
import { slowLink } from './net.js'
import { drivers, RedisServer } from './redis.js'

/** Servers that the engines need, started once for a file of tests. */
export class EngineServers {
  readonly redis: RedisServer
  readonly nats: NatsServer
  #count = 0

  private constructor(redis: RedisServer, nats: NatsServer) {
    this.redis = redis
    this.nats = nats
  }

  static async start(): Promise<EngineServers> {
    const [redis, nats] = await Promise.all([RedisServer.start(), NatsServer.start()])
    return new EngineServers(redis, nats)
  }

  async stop(): Promise<void> {
    await Promise.all([this.redis.stop(), this.nats.stop()])
  }

  /** A log that no other test uses; undefined is the memory log. */
  async log(engine: EngineName, milliseconds: number): Promise<EventLog | undefined> {
    const name = `log${this.#count++}`
    if (engine === 'memory') return undefined
    if (engine === 'cluster') return clusterLog({ name })
    if (engine === 'nats') {
      const port = await slowLink(this.nats.port, milliseconds)
      const connection = await connectNats({ servers: `127.0.0.1:${port}` })
      onTestFinished(() => connection.close())
      return natsLog({ connection, stream: name })
    }
    const port = await slowLink(this.redis.port, milliseconds)
    const { client, end } = drivers[engine](`redis://127.0.0.1:${port}`)
    onTestFinished(end)
    return redisLog({ client, key: name })
  }
}

export const ENGINES = ['memory', 'cluster', 'node-redis', 'ioredis', 'nats'] as const
export type EngineName = (typeof ENGINES)[number]

/** Engines that are reached over a link, which may be slow. */
export const REMOTE = ['node-redis', 'ioredis', 'nats'] as const
