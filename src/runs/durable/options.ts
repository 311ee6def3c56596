/** The options of `durableStreams()`: their defaults and checks. The docs are in durable-streams.ts. */
import {
  bytes,
  isFunction,
  isRecord,
  isWhole,
  MAX_DELAY,
  MIB,
  optional,
  type Rule,
  resolve,
  whole,
} from '../../lib/rules.js'
import type { RunStore } from '../../log/run-store.js'

export interface DurableSettings {
  readonly store: RunStore
  /** Without a slash at the end: `''` for all paths. */
  readonly prefix: string
  readonly maxBodyBytes: number
  readonly maxStreamLength: number | undefined
  readonly longPollTimeout: number
}

const STORE_METHODS = ['create', 'append', 'read', 'get', 'delete', 'watch']

const RULES: Record<keyof DurableSettings, Rule> = {
  store: {
    expected: 'a store for runs, such as memoryRuns()',
    accepts: value => isRecord(value) && STORE_METHODS.every(name => isFunction(value[name])),
  },
  prefix: {
    default: '/v1/stream',
    expected: "a path that begins with '/', without query or fragment",
    accepts: value => typeof value === 'string' && /^\/[^?#\s]*$/.test(value),
  },
  maxBodyBytes: bytes(10 * MIB),
  maxStreamLength: optional('a whole number of characters, at least 1', value => isWhole(value, 1)),
  longPollTimeout: whole(30_000, MAX_DELAY, 'milliseconds, '),
}

export function resolveDurableOptions(given: unknown): DurableSettings {
  const settings = resolve('durableStreams()', RULES, given) as unknown as DurableSettings
  return { ...settings, prefix: settings.prefix.replace(/\/+$/, '') }
}
