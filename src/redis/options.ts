/** The options of `redisLog()`: what they mean, their defaults and their checks. */
import { isRecord, MIB, optional, type Rule, resolve, timeoutMs, whole } from '../lib/rules.js'
import { type CreateConnection, connectionFactory, type RedisClient } from './client.js'

export interface RedisLogOptions {
  /**
   * A client of the package `redis` or `ioredis`, connected or not. Only its options are used, for
   * connections of our own; it is never sent a command and never closed. A client of one node, or of
   * ioredis one with `sentinels`; for a cluster, a client of the node that holds the key.
   */
  client: RedisClient
  /** The key of the stream. One for each pool; all its processes give the same. */
  key: string
  /**
   * About how many entries Redis keeps, and at most how many a process reads when it starts. Default
   * 10 000. The same in all processes.
   */
  maxEntries?: number | undefined
  /** At most how much a process reads when it starts, in characters. Default 32 Mi. */
  windowBytes?: number | undefined
  /** After how many ms without a reply the connection counts as lost. Default 5000. */
  timeout?: number | undefined
  /** How long, in ms, one call waits for new entries, and a loss may go unnoticed. Default 5000. */
  blockMs?: number | undefined
  /**
   * An append resolves only when so many replicas have it too (`WAIT`), and is uncertain when they
   * have not after `timeout` ms. Default: it resolves when the primary has it.
   */
  wait?: { replicas: number; timeout: number } | undefined
}

export interface ResolvedOptions {
  readonly createConnection: CreateConnection
  readonly key: string
  readonly maxEntries: number
  readonly windowBytes: number
  readonly timeout: number
  readonly blockMs: number
  readonly wait: { readonly replicas: number; readonly timeout: number } | undefined
}

const RULES: Record<keyof RedisLogOptions, Rule> = {
  client: { expected: 'a client of redis or ioredis', accepts: () => true },
  key: {
    expected: 'the key of the stream, a non-empty string',
    accepts: value => typeof value === 'string' && value !== '',
  },
  maxEntries: whole(10_000, 1_000_000),
  windowBytes: whole(32 * MIB, Number.MAX_SAFE_INTEGER),
  timeout: timeoutMs(5000),
  blockMs: timeoutMs(5000),
  wait: optional('an object such as { replicas: 1, timeout: 1000 }', isRecord),
}

const WAIT_RULES: Record<'replicas' | 'timeout', Rule> = {
  replicas: whole(undefined, 1000),
  timeout: timeoutMs(),
}

export function resolveOptions(given: RedisLogOptions): ResolvedOptions {
  const resolved = resolve('redisLog()', RULES, given)
  const { createConnection, keyPrefix } = connectionFactory(resolved.client)
  const { wait } = resolved
  return {
    ...resolved,
    createConnection,
    key: `${keyPrefix}${resolved.key}`,
    wait: wait === undefined ? undefined : resolve('redisLog(): wait', WAIT_RULES, wait),
  } as ResolvedOptions
}
