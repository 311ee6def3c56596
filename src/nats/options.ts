/** The options of `natsLog()`: their meaning, defaults and checks. */
import { MIB, oneOf, optional, type Rule, resolve, timeoutMs, whole } from '../lib/rules.js'
import { type ForeignOptions, refuseForeignOptions } from '../log/shared.js'
import type { NatsConnectionLike } from './consumer.js'

/** The options of {@link natsLog}. */
export interface NatsLogOptions {
  /**
   * Your connection or a promise of one, made by `connect()` of `@nats-io/transport-node`. The log never
   * closes it. Connect with
   * [`maxReconnectAttempts: -1`](https://docs.nats.io/using-nats/developer/connecting/reconnect/max): by
   * default the driver closes the connection after ten failed attempts, and the log then stays down.
   */
  connection: NatsConnectionLike | PromiseLike<NatsConnectionLike>
  /**
   * The name of the JetStream stream: 1 to 64 letters, digits, `-` and `_`. Use one per pool, and the
   * same in all of its processes. A missing stream is created; an existing one is never altered. It must
   * have the subject and [`retention: 'limits'`](https://docs.nats.io/nats-concepts/jetstream/streams);
   * with `discard: 'new'` instead of `'old'` it refuses appends once it is full.
   */
  stream: string
  /** The subject of the entries, without wildcards; default `<stream>.entries`. */
  subject?: string | undefined
  /**
   * How many messages a stream created by the log keeps, from 1 to 1,000,000; default 10,000. Each
   * append beyond it removes the oldest. It is also the most that a process reads when it starts. Clients
   * whose cursor was removed get a gap. Use the same number in all processes.
   */
  maxEntries?: number | undefined
  /**
   * How many characters of entries a process keeps at most when it starts; default 32 Mi (33,554,432).
   * Older entries beyond it are dropped, so clients whose cursor is among them get a gap from this
   * process. The newest entry is always kept, however large it is.
   */
  windowBytes?: number | undefined
  /**
   * Where a stream created by the log keeps its messages; default `'file'`. With `'memory'` a restart of
   * the server loses them, and every client gets a gap.
   */
  storage?: 'file' | 'memory' | undefined
  /**
   * On how many servers of a NATS cluster a stream created by the log is kept, from 1 to 5; default 1.
   * With more replicas than servers the stream cannot be created, and the log stays down.
   */
  replicas?: number | undefined
  /**
   * How long to wait for a reply of the server, in ms, from 1 to 3,600,000; default 5000. Beyond it an
   * append rejects with `ERR_SSE_LOG_UNCERTAIN`. A promised `connection` that takes longer makes the log
   * down until it resolves.
   */
  timeout?: number | undefined
}

export type ResolvedNatsOptions = {
  readonly [Name in keyof NatsLogOptions]-?: NonNullable<NatsLogOptions[Name]>
}

const isConnection = (value: unknown) =>
  typeof value === 'object' &&
  value !== null &&
  ('then' in value || ('publish' in value && 'subscribe' in value && 'status' in value))

const RULES: Record<keyof NatsLogOptions, Rule> = {
  connection: {
    expected: "a connection or a promise of one, made by connect() of '@nats-io/transport-node'",
    accepts: isConnection,
  },
  stream: {
    expected: 'the name of a stream: 1 to 64 letters, digits, - and _',
    accepts: value => typeof value === 'string' && /^[0-9A-Za-z_-]{1,64}$/.test(value),
  },
  subject: optional(
    "a subject without wildcards and spaces, such as 'app.events'",
    value => typeof value === 'string' && /^[^\s.*>$][^\s.*>]*(\.[^\s.*>]+)*$/.test(value),
  ),
  maxEntries: whole(10_000, 1_000_000),
  windowBytes: whole(32 * MIB, Number.MAX_SAFE_INTEGER),
  storage: oneOf('file', 'memory'),
  replicas: whole(1, 5),
  timeout: timeoutMs(5000),
}

const WITH_CONNECTION = 'natsLog({ connection: connect({ servers }), stream })'

const FOREIGN_OPTIONS: ForeignOptions = [
  [
    ['url', 'servers', 'server', 'host', 'port', 'user', 'pass', 'token'],
    `pass a connection instead: ${WITH_CONNECTION}`,
  ],
  [['nc', 'nats', 'client', 'js', 'jetstream'], 'did you mean "connection"?'],
  [['name', 'key', 'streamname'], 'did you mean "stream"?'],
  [['subjects', 'topic', 'channel'], 'did you mean "subject"?'],
  [['maxlen', 'max_msgs', 'maxmsgs', 'limit', 'events'], 'did you mean "maxEntries"?'],
  [['maxbytes', 'max_bytes', 'bytes'], 'did you mean "windowBytes"?'],
  [['num_replicas'], 'did you mean "replicas"?'],
]

/** @throws TypeError that names the option if one is missing, unknown or invalid. */
export function resolveNatsOptions(given: NatsLogOptions): ResolvedNatsOptions {
  refuseOtherThanOptions(given)
  refuseForeignOptions('natsLog()', given, FOREIGN_OPTIONS)
  const resolved = resolve('natsLog()', RULES, given)
  resolved.subject ??= `${given.stream}.entries`
  return resolved as unknown as ResolvedNatsOptions
}

/** Habits of other libraries: the connection itself, or its URL, which may contain a password. */
function refuseOtherThanOptions(given: unknown): void {
  if (typeof given === 'string') {
    throw new TypeError(
      `natsLog(): options must be an object; got a string; write ${WITH_CONNECTION}`,
    )
  }
  if (isConnection(given)) {
    throw new TypeError(
      'natsLog(): options must be an object; got a connection; ' +
        "write natsLog({ connection, stream: 'app-events' })",
    )
  }
}
