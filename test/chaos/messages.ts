/** What the driver and its server processes say to each other. */

export type EngineName = 'redis' | 'nats'

/** Given to a server process when it is started. */
export interface ServerConfig {
  readonly engine: EngineName
  /** Of the engine. */
  readonly port: number
  /** The entries that each process keeps in its window. */
  readonly window: number
  /** The entries that the log keeps. */
  readonly maxEntries: number
}

export interface Address {
  readonly kind: 'client' | 'channel' | 'everyone'
  readonly name: string
  readonly except?: string | undefined
}

/** The data of each event. */
export interface Payload {
  /** Which send it is; no two have the same. */
  readonly n: number
  /** The how many-th to this target. */
  readonly s: number
  readonly padding?: string | undefined
}

export type Order =
  | {
      readonly type: 'publish'
      readonly to: Address
      readonly key?: string | undefined
      readonly data: Payload
      /** Whether it is sent again when its outcome is uncertain. */
      readonly persist: boolean
    }
  | { readonly type: 'drain'; readonly spread: number }

export type News =
  | { readonly type: 'listening'; readonly port: number }
  | {
      readonly type: 'settled'
      readonly n: number
      readonly outcome: 'acknowledged' | 'rejected' | 'uncertain'
      /** Of the entry, if it was acknowledged. */
      readonly id?: string
      /** It was sent more than once. */
      readonly wasRetried: boolean
      readonly error?: string
    }
  | { readonly type: 'failed'; readonly error: string }
