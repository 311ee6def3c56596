/** What processes ask each other for the page, and what they answer. */
import { isRecord, isWhole } from '../lib/rules.js'
import type { PoolStats } from '../pool/stats.js'
import type { StreamState } from '../pool/survey.js'
import type { TransportName } from '../stream/transport/transport.js'

/** The most rows that one answer has. */
export const MAX_ROWS = 200

/** The most bytes of rows in one answer. With the fields around them it stays far below the 1 MB of NATS. */
export const MAX_ANSWER_BYTES = 128 * 1024

export type Sort = 'id' | 'behind'

export type Question =
  | { readonly asks: 'process' }
  | ({ readonly asks: 'streams' } & StreamQuery)
  | ({ readonly asks: 'channels' } & ChannelQuery)
  | { readonly asks: 'sent'; readonly stream: number; readonly data: boolean }
  | { readonly asks: 'drain'; readonly spread: number }

export interface StreamQuery {
  /** A part of the client's id in any case, or `#` and the name of a channel. Empty for all. */
  readonly search: string
  readonly sort: Sort
  /** The last row that the page has. */
  readonly after?: RowKey | undefined
  readonly limit: number
}

export interface ChannelQuery {
  readonly search: string
  /** The last name that the page has. */
  readonly after?: string | undefined
  readonly limit: number
}

/** A row's place in the order: processes sort and page by it without knowing each other's rows. */
export interface RowKey {
  readonly id: string
  readonly behind: number
  readonly process: string
  readonly stream: number
}

export interface StreamRow extends RowKey {
  /** Entries of the log; -1 for a stream that is opening or parked, or reads a run. */
  readonly behind: number
  readonly state: StreamState
  readonly transport: TransportName
  /** Bytes that wait in the process or its socket. */
  readonly buffered: number
  /** The first few, each cut to 64 characters, and how many there are. */
  readonly channels: readonly string[]
  readonly channelCount: number
}

/** A part of a list, and how many rows match on that process. */
export interface Part<Row> {
  readonly total: number
  readonly rows: readonly Row[]
  /** Whether more rows follow on that process. */
  readonly more: boolean
}

export interface ChannelRow {
  readonly name: string
  readonly streams: number
}

export interface ProcessRow {
  readonly stats: PoolStats
  readonly isReady: boolean
  readonly engine: string
  /** The id of the newest entry in the window. */
  readonly tail: string
  readonly limits: { readonly events: number; readonly bytes: number }
  readonly actions: readonly string[]
}

export interface SentEntry {
  readonly id: string
  readonly event: string
  readonly bytes: number
  /** `*`, `@client` or `#channel`. */
  readonly target: string
  /** False if it is older than the stream: replayed to it, received by the client before, or not sent at all. */
  readonly isLive: boolean
  readonly data?: string
}

export interface SentAnswer {
  readonly row: StreamRow
  /** The id at the stream's cursor; empty while it is not decided. */
  readonly cursor: string
  readonly tail: string
  /** What the client brought, cut to 100 characters. */
  readonly lastEventId: string
  readonly waiting: number
  /** Newest first. */
  readonly sent: readonly SentEntry[]
}

/** Undefined for what is none, such as a question of a newer version. */
export function parseQuestion(body: unknown): Question | undefined {
  if (!isRecord(body)) return undefined
  const { asks, stream, data, spread } = body
  if (asks === 'process') return { asks }
  if (asks === 'sent' && isWhole(stream, 1)) {
    return { asks, stream: stream as number, data: data === true }
  }
  if (asks === 'drain' && isWhole(spread, 0, MAX_SPREAD_MS)) {
    return { asks, spread: spread as number }
  }
  if (asks !== 'streams' && asks !== 'channels') return undefined
  const { search, sort, after, limit } = body
  if (typeof search !== 'string' || !isWhole(limit, 1, MAX_ROWS)) return undefined
  const list = { search, limit: limit as number }
  if (asks === 'channels') {
    return { asks, ...list, after: typeof after === 'string' ? after : undefined }
  }
  return { asks, ...list, sort: sort === 'behind' ? 'behind' : 'id', after: parseKey(after) }
}

/** The longest time over which the streams of a process are ended. */
export const MAX_SPREAD_MS = 600_000

export function parseKey(value: unknown): RowKey | undefined {
  if (!isRecord(value)) return undefined
  const { id, behind, process, stream } = value
  if (typeof id !== 'string' || typeof process !== 'string') return undefined
  if (!Number.isInteger(behind) || !Number.isInteger(stream)) return undefined
  return { id, behind: behind as number, process, stream: stream as number }
}

/** The order of rows: by id, or those that are furthest behind first. */
export function compareRows(a: RowKey, b: RowKey, sort: Sort): number {
  return (
    (sort === 'behind' ? b.behind - a.behind : 0) ||
    compare(a.id, b.id) ||
    compare(a.process, b.process) ||
    a.stream - b.stream
  )
}

/** The same on every process: not by the locale, which may differ. */
export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
