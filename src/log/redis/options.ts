/** The options of `redisLog()`: what they mean, their defaults and their checks. */
import { didYouMean, got } from '../../errors.js'
import { type Dial, dialer, type RedisClient } from './client.js'

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
  readonly dial: Dial
  readonly key: string
  readonly maxEntries: number
  readonly windowBytes: number
  readonly timeout: number
  readonly blockMs: number
  readonly wait: { readonly replicas: number; readonly timeout: number } | undefined
}

interface Rule {
  readonly default?: unknown
  readonly expected: string
  readonly accepts: (value: unknown) => boolean
}

const isWhole = (value: unknown, max: number) =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= max

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const whole = (fallback: number | undefined, max: number, unit = ''): Rule => ({
  default: fallback,
  expected: `${unit}a whole number from 1 to ${max}`,
  accepts: value => isWhole(value, max),
})

/** Waiting for longer than an hour is no waiting; Node's timers end at 24 days. */
const milliseconds = (fallback?: number) => whole(fallback, 3_600_000, 'milliseconds, ')

const RULES: Record<keyof RedisLogOptions, Rule> = {
  client: { expected: 'a client of redis or ioredis', accepts: () => true },
  key: {
    expected: 'the key of the stream, a non-empty string',
    accepts: value => typeof value === 'string' && value !== '',
  },
  maxEntries: whole(10_000, 1_000_000),
  windowBytes: whole(32 * 1024 * 1024, Number.MAX_SAFE_INTEGER),
  timeout: milliseconds(5000),
  blockMs: milliseconds(5000),
  wait: {
    expected: 'an object such as { replicas: 1, timeout: 1000 }',
    accepts: value => value === undefined || isRecord(value),
  },
}

const WAIT_RULES: Record<'replicas' | 'timeout', Rule> = {
  replicas: whole(undefined, 1000),
  timeout: milliseconds(),
}

export function resolveOptions(given: RedisLogOptions): ResolvedOptions {
  const resolved = resolve('redisLog()', RULES, given)
  const { dial, keyPrefix } = dialer(resolved.client)
  const { wait } = resolved
  return {
    ...resolved,
    dial,
    key: `${keyPrefix}${resolved.key}`,
    wait: wait === undefined ? undefined : resolve('redisLog(): wait', WAIT_RULES, wait),
  } as ResolvedOptions
}

function resolve<Name extends string>(
  where: string,
  rules: Record<Name, Rule>,
  given: unknown,
): Record<Name, unknown> {
  if (!isRecord(given))
    throw new TypeError(`${where}: options must be an object; got ${got(given)}`)
  const names = Object.keys(rules) as Name[]
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(rules, name)) {
      throw new TypeError(`${where}: unknown option "${name}"${didYouMean(name, names)}`)
    }
  }
  const resolved = {} as Record<Name, unknown>
  for (const name of names) {
    const rule = rules[name]
    const value = given[name] === undefined ? rule.default : given[name]
    if (!rule.accepts(value)) {
      throw new TypeError(`${where}: option "${name}" must be ${rule.expected}; got ${got(value)}`)
    }
    resolved[name] = value
  }
  return resolved
}
