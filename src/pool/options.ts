/**
 * The options of a pool, each with its default and its check. They know nothing of Koa. A wrong option
 * throws when the app starts, never when a client connects.
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
  /**
   * How many streams this process may have open at once, long polls included. Further requests are
   * refused as the route's option `overflow` says. Default 10 000; `Infinity` for no limit.
   */
  maxClients?: number | undefined
  /**
   * How many streams and long polls of this process one client id may have open, such as for its tabs.
   * `onDuplicate` says what happens beyond that. Default `Infinity`.
   */
  maxStreamsPerClient?: number | undefined
  /**
   * How many streams one TCP connection (by pipelining) or HTTP/2 session may carry. Further requests are
   * refused as the route's option `overflow` says. Pipelined streams take one place of `maxClients` together.
   * Default 100; raise it behind a proxy that speaks HTTP/2 to this server, as it carries many clients on one
   * connection.
   */
  maxStreamsPerConnection?: number | undefined
  /**
   * What a stream over `maxStreamsPerClient` does: `'replace'` (default) closes the client's oldest one
   * as `replaced`, streams before long polls; `'reject'` refuses the new one with 429.
   */
  onDuplicate?: 'replace' | 'reject' | undefined
  /**
   * How many streams and long polls of this process one address may have open, an IPv6 address together
   * with its /64 network. Further ones get 429 with `Retry-After`, or what `overflow: 'retry'` says. Many
   * people may share an address, such as that of an office or of a mobile network. Default `Infinity`.
   */
  maxStreamsPerAddress?: number | undefined
  /**
   * How many streams and long polls a second one address may open on this process, on average over 10
   * seconds; a fraction such as `0.5` is possible. Counted and refused like `maxStreamsPerAddress`, before
   * `id` or `identify` is called. The 10 000 addresses that came last are remembered. Default `Infinity`.
   */
  connectRate?: number | undefined
  /**
   * How many proxies stand in front of this process, for the two options above: each appends the address
   * that it was called from to `X-Forwarded-For`, and the address counted is the one that many places
   * from the right. Too few, and all clients share the address of a proxy; too many, and clients can
   * choose theirs. Default 0: the address of the socket.
   */
  trustedProxies?: number | undefined
  /**
   * Milliseconds between heartbeats. Default 15 000, which is below every proxy's idle timeout;
   * `false` sends none, but still checks `authorize` and the server every 15 000 ms.
   */
  pingInterval?: number | false | undefined
  /**
   * `'event'` (default): an `sse.cursor` event, which keeps a quiet client's cursor in the window and
   * lets a page notice silence; its data is `pingInterval`. A new stream gets one at once, and one that
   * resumes as soon as it has got everything it missed. `'comment'`: for clients that show every event they get; their cursors
   * are not kept up, so a quiet one may get a gap although it missed nothing.
   */
  heartbeat?: 'event' | 'comment' | undefined
  /** Bytes of direct sends that may wait for a stream; beyond that it closes as `slow`. Default 1 MiB. */
  maxBufferedBytes?: number | undefined
  /**
   * Milliseconds after which a stream closes as `slow` if bytes wait in its socket and the client
   * takes none. Default 30 000. It may take twice as long, because Node counts filling the socket as
   * progress.
   */
  stallTimeout?: number | undefined
  /** Bytes that one event's frame may take; beyond that the send throws. Default 1 MiB. */
  maxEventBytes?: number | undefined
  /**
   * The newest entries that this process keeps for replay, up to the limit that is reached first. A
   * client that has missed older ones gets a gap event.
   */
  window?:
    | {
        /** The number of entries. Default 10 000; `Infinity` for no limit. */
        events?: number | undefined
        /** The bytes of their frames, ids and keys. Default 32 MiB. */
        bytes?: number | undefined
        /**
         * Milliseconds since this process has read them from the log; `Infinity` for no limit. A process that
         * has just started counts from its start, so for so long it may replay older ones. For a limit that
         * holds everywhere, give events a `ttl`. Default `Infinity`.
         */
        age?: number | undefined
      }
    | undefined
  /**
   * `true`: an open HTTP/1.1 stream keeps only its socket, which halves its memory. The response emits
   * `finish` and `close` when the stream opens, so access logs end there, and
   * `server.closeAllConnections()` does not find the stream: end it by {@link ClientPool.close}. A
   * connection that is not as Node 20 to 26 leave it stays an ordinary one; `stats().lean` counts those
   * that are lean. Default `false`.
   */
  lean?: boolean | undefined
  /** Where events are stored. Default: a log in this process's memory. */
  log?: EventLog | undefined
  /** Turns data that is not a string into a string. Default `JSON.stringify`. */
  serialize?: Serialize | undefined
  /**
   * Called for each open stream at every heartbeat. Only `true` keeps the stream; anything else, such as
   * the `undefined` of a session that was not found, closes it as `expired`. If it throws or rejects, the
   * stream stays open, the pool emits `error`, and it is called again at the next heartbeat. At most 100
   * calls wait for their answer at once, one for each stream; the others follow as these are answered.
   * Default: streams are not checked again.
   *
   * @example
   * ```js
   * new ClientPool({ authorize: stream => sessions.isValid(stream.state.session) })
   * ```
   */
  authorize?: ((stream: EventStream<Events>) => boolean | Promise<boolean>) | undefined
}

type Settled<Options> = { readonly [Name in keyof Options]-?: NonNullable<Options[Name]> }

export type ResolvedPoolOptions = Settled<Omit<PoolOptions, 'window' | 'log' | 'authorize'>> & {
  readonly window: { readonly events: number; readonly bytes: number; readonly age: number }
  readonly log: EventLog | undefined
  readonly authorize: PoolOptions['authorize']
}

export const POOL_RULES: Record<keyof PoolOptions, Rule> = {
  maxClients: count(10_000),
  maxStreamsPerClient: count(Number.POSITIVE_INFINITY),
  maxStreamsPerConnection: count(100),
  onDuplicate: oneOf('replace', 'reject'),
  maxStreamsPerAddress: count(Number.POSITIVE_INFINITY),
  connectRate: {
    default: Number.POSITIVE_INFINITY,
    expected: 'a number of streams per second above 0, or Infinity',
    accepts: value => typeof value === 'number' && value > 0,
  },
  trustedProxies: {
    default: 0,
    expected: 'the number of proxies, a whole number from 0 to 100',
    accepts: value => isWhole(value, 0, 100),
  },
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
  log: optional(
    'an event log with open, append, compare, barrier and close, such as redisLog({ client, key })',
    isEventLog,
  ),
  lean: aBoolean(false),
  serialize: {
    default: JSON.stringify,
    expected: 'a function from data to a string',
    accepts: isFunction,
  },
  authorize: aFunction('a function from a stream to a boolean'),
}

const WINDOW_RULES: Record<'events' | 'bytes' | 'age', Rule> = {
  events: count(10_000),
  bytes: bytes(32 * MIB),
  age: {
    default: Number.POSITIVE_INFINITY,
    expected: 'milliseconds, a whole number of at least 1, or Infinity',
    accepts: value => value === Number.POSITIVE_INFINITY || isWhole(value, 1),
  },
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
