/** The messages between the driver and its server processes. */

export type EngineName = 'redis' | 'nats'

/** The argument of a server process. */
export interface ServerConfig {
  readonly engine: EngineName
  /** The port of the engine. */
  readonly port: number
  /** How many entries each process keeps in its window. */
  readonly window: number
  /** How many entries the log keeps. */
  readonly maxEntries: number
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

export type Order =
  | {
      readonly type: 'publish'
      readonly to: Address
      readonly key?: string | undefined
      readonly data: Payload
      /** Whether the send is repeated if its outcome is uncertain. */
      readonly persist: boolean
    }
  | { readonly type: 'run'; readonly id: string; readonly length: number }
  | { readonly type: 'stop run'; readonly id: string }
  | { readonly type: 'drain'; readonly spread: number }

export type News =
  | { readonly type: 'listening'; readonly port: number }
  | {
      readonly type: 'settled'
      readonly n: number
      readonly outcome: 'acknowledged' | 'rejected' | 'uncertain'
      /** The id of the entry, if it was acknowledged. */
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
  | { readonly type: 'failed'; readonly error: string }
