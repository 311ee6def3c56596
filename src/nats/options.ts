/** The options of `natsLog()`: what they mean, their defaults and their checks. */
import { MIB, oneOf, optional, type Rule, resolve, timeoutMs, whole } from '../lib/rules.js'
import type { NatsConnectionLike } from './consumer.js'

export interface NatsLogOptions {
  /**
   * Your connection, or the promise of one; it is never closed by the log. Connect with
   * `maxReconnectAttempts: -1`: by default NATS gives up after ten attempts, and closes it.
   */
  connection: NatsConnectionLike | PromiseLike<NatsConnectionLike>
  /** The JetStream stream: made when there is none, never altered when there is. */
  stream: string
  /** The subject of its entries. Default `<stream>.entries`. */
  subject?: string | undefined
  /** How many entries a stream made here keeps, and how many are read at the start. Default 10 000. */
  maxEntries?: number | undefined
  /** At most how much a process reads when it starts, in characters. Default 32 Mi. */
  windowBytes?: number | undefined
  /** Where a stream made here keeps them. Default `'file'`; `'memory'` is lost with the server. */
  storage?: 'file' | 'memory' | undefined
  /** On how many servers of a cluster a stream made here is kept. Default 1. */
  replicas?: number | undefined
  /** Milliseconds after which a question to the server counts as lost. Default 5000. */
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
    expected: "a connection, such as connect() of '@nats-io/transport-node' returns",
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

/** @throws TypeError that names the option, when one is unknown or wrong. */
export function resolveNatsOptions(given: NatsLogOptions): ResolvedNatsOptions {
  const resolved = resolve('natsLog()', RULES, given)
  resolved.subject ??= `${given.stream}.entries`
  return resolved as unknown as ResolvedNatsOptions
}
