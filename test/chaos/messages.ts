/** The messages between the driver and its server processes. */

export const ENGINES = ['redis', 'nats', 'postgres', 'sqlite'] as const
export type EngineName = (typeof ENGINES)[number]

export function isEngine(name: string): name is EngineName {
  return (ENGINES as readonly string[]).includes(name)
}

/** The argument of a server process. */
export interface ServerConfig {
  readonly engine: EngineName
  /** The port of the engine, or the path of its file. */
  readonly address: string
  /** How many entries each process keeps in its window. */
  readonly window: number
  /** How many entries the log keeps. */
  readonly maxEntries: number
  /** Where better-sqlite3 is, for a Node without SQLite. */
  readonly betterSqlite: string
}

export interface Address {
  readonly kind: 'client' | 'channel' | 'everyone'
  readonly name: string
  readonly except?: string | undefined
}

/** The data of each event. */
export interface Payload {
  /** The unique number of the send. */
  readonly n: number
  /** The position among the sends to this target, from 1. */
  readonly s: number
  readonly padding?: string | undefined
}

/** An event that is sent in a transaction of the app. */
export interface Part {
  readonly to: Address
  readonly data: Payload
}

export type Order =
  | {
      readonly type: 'publish'
      readonly to: Address
      readonly key?: string | undefined
      readonly data: Payload
      /** Whether the send is repeated if its outcome is uncertain. */
      readonly persist: boolean
    }
  | {
      readonly type: 'transact'
      readonly events: readonly Part[]
      readonly ends: 'commit' | 'rollback'
      /** For how long the transaction stays open after its events, in ms. */
      readonly hold: number
    }
  /** Two transactions with an event each, which wait for each other. */
  | { readonly type: 'deadlock'; readonly events: readonly [Part, Part] }
  | { readonly type: 'run'; readonly id: string; readonly length: number }
  | { readonly type: 'stop run'; readonly id: string }
  | { readonly type: 'drain'; readonly spread: number }

export type News =
  | { readonly type: 'listening'; readonly port: number }
  | {
      readonly type: 'settled'
      readonly n: number
      readonly outcome: 'acknowledged' | 'rejected' | 'uncertain'
      /** The id of the entry, if it was acknowledged. PostgreSQL gives none to an event of a transaction. */
      readonly id?: string
      /** Whether it was sent more than once. */
      readonly wasRetried: boolean
      readonly error?: string
    }
  | {
      readonly type: 'run'
      readonly id: string
      readonly what: 'begun' | 'failed' | 'acknowledged'
      /** How many of its events are acknowledged. */
      readonly count: number
    }
  /** The transaction with this event is open. */
  | { readonly type: 'holding'; readonly n: number }
  | { readonly type: 'failed'; readonly error: string }
