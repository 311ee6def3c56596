/** The options of `natsLog()`: what they mean, their defaults and their checks. */
import { didYouMean, got } from '../../errors.js'
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

interface Rule {
  readonly default?: unknown
  readonly expected: string
  readonly accepts: (value: unknown) => boolean
}

const isWhole = (value: unknown, min: number, max: number) =>
  Number.isInteger(value) && (value as number) >= min && (value as number) <= max

const whole = (fallback: number, min: number, max: number, unit = ''): Rule => ({
  default: fallback,
  expected: `${unit}a whole number from ${min} to ${max}`,
  accepts: value => isWhole(value, min, max),
})

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
  subject: {
    expected: "a subject without wildcards and spaces, such as 'app.events'",
    accepts: value =>
      value === undefined ||
      (typeof value === 'string' && /^[^\s.*>$][^\s.*>]*(\.[^\s.*>]+)*$/.test(value)),
  },
  maxEntries: whole(10_000, 1, 1_000_000),
  windowBytes: whole(32 * 1024 * 1024, 1, Number.MAX_SAFE_INTEGER),
  storage: {
    default: 'file',
    expected: "'file' or 'memory'",
    accepts: value => value === 'file' || value === 'memory',
  },
  replicas: whole(1, 1, 5),
  timeout: whole(5000, 1, 3_600_000, 'milliseconds, '),
}

/** @throws TypeError that names the option, when one is unknown or wrong. */
export function resolveNatsOptions(given: NatsLogOptions): ResolvedNatsOptions {
  if (typeof given !== 'object' || given === null) {
    throw new TypeError(`natsLog(): options must be an object; got ${got(given)}`)
  }
  const names = Object.keys(RULES) as (keyof NatsLogOptions)[]
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(RULES, name)) {
      throw new TypeError(`natsLog(): unknown option "${name}"${didYouMean(name, names)}`)
    }
  }
  const resolved: Partial<Record<keyof NatsLogOptions, unknown>> = {}
  for (const name of names) {
    const value = given[name] === undefined ? RULES[name].default : given[name]
    if (!RULES[name].accepts(value)) {
      throw new TypeError(
        `natsLog(): option "${name}" must be ${RULES[name].expected}; got ${got(value)}`,
      )
    }
    resolved[name] = value
  }
  resolved.subject ??= `${given.stream}.entries`
  return resolved as unknown as ResolvedNatsOptions
}
