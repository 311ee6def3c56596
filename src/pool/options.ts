/**
 * The options of a pool, each with its default and its check. They know nothing of Koa. A wrong option is
 * found when the app starts, never when a client connects.
 */
import {
  aBoolean,
  aFunction,
  bytes,
  count,
  isFunction,
  isRecord,
  isWhole,
  MAX_DELAY,
  MIB,
  oneOf,
  optional,
  type Rule,
  resolve,
} from '../lib/rules.js'
import type { EventLog } from '../log/log.js'
import type { EventStream } from '../stream/event-stream.js'
import type { EventMap, Serialize } from '../wire/event.js'

/** Options of a {@link ClientPool}. */
export interface PoolOptions<Events extends object = EventMap> {
  /** How many streams may be open at once. Default 10 000; `Infinity` for no limit. */
  maxClients?: number | undefined
  /** How many streams one client id may have, such as its tabs. Default `Infinity`. */
  maxStreamsPerClient?: number | undefined
  /**
   * What a stream over `maxStreamsPerClient` does: `'replace'` (default) closes the client's
   * oldest one as `replaced`; `'reject'` refuses the new one with 429.
   */
  onDuplicate?: 'replace' | 'reject' | undefined
  /**
   * Milliseconds between heartbeats. Default 15 000, which is under every proxy's idle timeout;
   * `false` sends none, but goes on checking `authorize` and the server every 15 000 ms.
   */
  pingInterval?: number | false | undefined
  /**
   * `'event'` (default): an `sse.cursor` event, which keeps a quiet client's cursor fresh and lets
   * a page notice silence. `'comment'`: for clients that show every event they get;
   * their cursors are not kept fresh, so a quiet one may be told of a gap that was none.
   */
  heartbeat?: 'event' | 'comment' | undefined
  /** Bytes of direct sends that may wait for one stream before it is closed as `slow`. Default 1 MiB. */
  maxBufferedBytes?: number | undefined
  /**
   * Milliseconds after which a full socket that takes nothing is closed as `slow`. Default 30 000. It
   * may take twice as long, as Node counts the filling of the socket as progress.
   */
  stallTimeout?: number | undefined
  /** Bytes that one event's frame may take. Default 1 MiB. */
  maxEventBytes?: number | undefined
  /**
   * The newest entries that this process keeps for replay. Default `{ events: 10_000, bytes: 32 MiB }`,
   * whichever is reached first. A client that was away for longer gets a gap event.
   */
  window?: { events?: number; bytes?: number } | undefined
  /**
   * `true`: an open HTTP/1.1 stream keeps its socket and nothing else, for half the memory. The
   * response's `finish` and `close` come when the stream opens, so access logs end there, and
   * `server.closeAllConnections()` does not see it: end streams by {@link ClientPool.close}.
   * Where the connection is not as Node 20 to 26 leave it, it stays as it is; `stats().lean`
   * counts those that are lean. Default `false`.
   */
  lean?: boolean | undefined
  /** Where events are stored. Default: a log in this process's memory. */
  log?: EventLog | undefined
  /** Turns data that is no string into a string. Default `JSON.stringify`. */
  serialize?: Serialize | undefined
  /**
   * Asked again for each open stream at every heartbeat; `false` closes it as `expired`. When it
   * throws, the stream stays, the pool emits `error`, and it is asked again at the next one.
   */
  authorize?: ((stream: EventStream<Events>) => boolean | Promise<boolean>) | undefined
}

type Settled<Options> = { readonly [Name in keyof Options]-?: NonNullable<Options[Name]> }

export type ResolvedPoolOptions = Settled<Omit<PoolOptions, 'window' | 'log' | 'authorize'>> & {
  readonly window: { readonly events: number; readonly bytes: number }
  readonly log: EventLog | undefined
  readonly authorize: PoolOptions['authorize']
}

export const POOL_RULES: Record<keyof PoolOptions, Rule> = {
  maxClients: count(10_000),
  maxStreamsPerClient: count(Number.POSITIVE_INFINITY),
  onDuplicate: oneOf('replace', 'reject'),
  pingInterval: {
    default: 15_000,
    expected: 'milliseconds, a whole number of at least 1, or false for no heartbeats',
    accepts: value => value === false || isWhole(value, 1, MAX_DELAY),
  },
  heartbeat: oneOf('event', 'comment'),
  maxBufferedBytes: bytes(MIB),
  stallTimeout: {
    default: 30_000,
    expected: 'milliseconds, a whole number of at least 1',
    accepts: value => isWhole(value, 1, MAX_DELAY),
  },
  maxEventBytes: bytes(MIB),
  window: {
    default: {},
    expected: 'an object such as { events: 10_000, bytes: 33_554_432 }',
    accepts: isRecord,
  },
  log: optional('an event log with open, append, compare, barrier and close', isEventLog),
  lean: aBoolean(false),
  serialize: {
    default: JSON.stringify,
    expected: 'a function from data to a string',
    accepts: isFunction,
  },
  authorize: aFunction('a function from a stream to a boolean'),
}

const WINDOW_RULES: Record<'events' | 'bytes', Rule> = {
  events: count(10_000),
  bytes: bytes(32 * MIB),
}

/** @throws TypeError that names the option, when one is unknown or wrong. */
export function resolvePoolOptions<Events extends object>(
  given: PoolOptions<Events>,
): ResolvedPoolOptions {
  const resolved = resolve('ClientPool', POOL_RULES, given)
  const window = resolve('ClientPool: window', WINDOW_RULES, resolved.window)
  return { ...resolved, window } as unknown as ResolvedPoolOptions
}

function isEventLog(value: unknown): boolean {
  const methods = ['open', 'append', 'compare', 'barrier', 'close']
  return isRecord(value) && methods.every(name => isFunction(value[name]))
}
