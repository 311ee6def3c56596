/**
 * The engine interface of runs. A run is a log of its own: it begins, grows, ends, and can be read from its
 * beginning until it expires. A store knows nothing of events, HTTP or readers; it keeps texts in order, decides
 * who may append, and wakes those who watch.
 *
 * `Runs` and `durableStreams()` of `koa-sse-pool/runs` are two faces of the same store.
 */

/**
 * A store for runs: implement this to keep them elsewhere, and run `runStoreSuite` from `koa-sse-pool/testing`
 * against it.
 *
 * Each method is atomic: a crash leaves all of its effects or none. Rejections are `SseError`s:
 * `ERR_SSE_LOG_DOWN` if nothing was stored, `ERR_SSE_LOG_UNCERTAIN` if it may have been. An append with a
 * producer may then be repeated.
 */
export interface RunStore {
  /**
   * How long a producer's events may wait for more before they are stored together, in milliseconds. 0 for a
   * store that costs no network.
   */
  readonly linger: number
  /** Begins a run, unless there is one of this id. */
  create(id: string, creation: RunCreation): Promise<RunCreated>
  /** Appends entries, ends the run, or both at once. */
  append(id: string, addition: RunAddition): Promise<RunAppended>
  /**
   * Reads the entries after a position, at least one if there is any, and keeps the run from expiring. Of a
   * deleted or expired run it returns no entries. Undefined for an unknown run.
   *
   * @param limits how much to return at most: entries, and their length in characters.
   */
  read(id: string, after: number, limits: RunLimits): Promise<RunPage | undefined>
  /** What is known of a run; does not keep it from expiring. Undefined for an unknown run. */
  get(id: string): Promise<RunRecord | undefined>
  /** Its producer is alive: the lease begins again. Undefined for an unknown run. */
  renew(id: string): Promise<RunRecord | undefined>
  /**
   * Forgets a run. While it has forks, its entries are kept for them, and its record says `deleted`.
   * @returns what it was; undefined for an unknown run.
   */
  delete(id: string): Promise<RunRecord | undefined>
  /**
   * Calls the listener when the run has grown, ended or been deleted, and without news once it listens and
   * whenever it may have missed something: then the watcher has to read. Never calls it synchronously.
   * @returns a function that ends it.
   */
  watch(id: string, listener: (news: RunNews | undefined) => void): () => void
  /** Ends all watching and frees what the store itself opened. May be called more than once. */
  close(): Promise<void>
}

/** What a store knows of a run. */
export interface RunRecord {
  /**
   * Tells this run from earlier ones of the same id: 8 of the characters `[0-9a-z]`, drawn when it began. A
   * fork has that of its source, because it has the source's positions.
   */
  readonly generation: string
  /** Given at the beginning; a store returns it unchanged. */
  readonly meta: string
  /** `deleted` while forks still need its entries; `expired` for as long as `remember` says. */
  readonly status: 'open' | 'ended' | 'deleted' | 'expired'
  /** How it ended, as given then; `''` while it is open. */
  readonly ending: string
  /** The position before the oldest entry that is kept; 0 if all are. */
  readonly start: number
  /** The position of the newest entry; 0 if there is none. */
  readonly tail: number
  /** When it began, in milliseconds since the epoch. */
  readonly createdAt: number
  /** When it ended; undefined while it is open. */
  readonly endedAt: number | undefined
  readonly ttl: number | undefined
  readonly expiresAt: number | undefined
  /** How long the lease still runs, in milliseconds; undefined without a lease and once it has ended. */
  readonly leaseLeft: number | undefined
}

/** How a run begins. */
export interface RunCreation {
  /**
   * Makes the creation repeatable: if its reply was lost, a run that `exists` with this generation is its own.
   * Default: drawn by the store. A fork always has that of its source.
   */
  readonly generation?: string | undefined
  readonly meta: string
  /** Expires this many milliseconds after it was last appended to, renewed or read. */
  readonly ttl?: number | undefined
  /** Expires at this time, in milliseconds since the epoch. */
  readonly expiresAt?: number | undefined
  /**
   * For how many milliseconds the store remembers that a run of this id has expired; until then none can begin.
   * Default 0.
   */
  readonly remember?: number | undefined
  /** Ends the run in this way if its producer neither appends nor renews for this many milliseconds. */
  readonly lease?: { readonly ms: number; readonly ending: string } | undefined
  /** Drops the oldest entries while all that are kept have more characters than this, but never the newest. */
  readonly maxLength?: number | undefined
  readonly entries?: readonly string[] | undefined
  /** Ends it at once. */
  readonly ending?: string | undefined
  /** Begins with the entries of another run up to a position, which are not copied. */
  readonly fork?: { readonly from: string; readonly at: number } | undefined
}

/**
 * - `created`: the run has begun.
 * - `exists`: there is one of this id, also if it is deleted or expired.
 * - `no source`: there is no run to fork, or it has expired.
 * - `source deleted`: it is only kept for its other forks.
 * - `no position`: the source does not have this position, or has dropped what comes before.
 */
export type RunCreated =
  | { readonly outcome: 'created' | 'exists'; readonly run: RunRecord }
  | { readonly outcome: 'no source' | 'source deleted' | 'no position' }

/** What is added to a run. */
export interface RunAddition {
  readonly entries: readonly string[]
  /** Ends the run after the entries. */
  readonly ending?: string | undefined
  /** Only if the run has this generation. */
  readonly generation?: string | undefined
  /**
   * Makes the append repeatable: each producer counts its appends from 0 in each epoch.
   */
  readonly producer?: RunProducer | undefined
  /** Must be greater, bytewise, than that of the last append that had one. */
  readonly order?: string | undefined
}

export interface RunProducer {
  readonly id: string
  readonly epoch: number
  readonly seq: number
}

/**
 * Checked in this order:
 * - `unknown`: there is no such run, or of another generation, or it is deleted or expired: see `run`.
 * - `ended`: the run has ended, and not by this append of this producer.
 * - `duplicate`: the producer has made this append before.
 * - `stale epoch`: the producer has begun a newer epoch.
 * - `wrong start`: a new epoch has to begin with 0.
 * - `gap`: the append before this one is missing.
 * - `wrong order`: `order` is not greater than the last one.
 * - `appended`.
 */
export interface RunAppended {
  readonly outcome:
    | 'appended'
    | 'unknown'
    | 'duplicate'
    | 'ended'
    | 'stale epoch'
    | 'wrong start'
    | 'gap'
    | 'wrong order'
  /** The run after the append; undefined for an unknown one. */
  readonly run: RunRecord | undefined
  /** The producer's newest epoch and number; undefined before its first append, and without a producer. */
  readonly producer?: { readonly epoch: number; readonly seq: number } | undefined
}

export interface RunLimits {
  readonly entries: number
  readonly length: number
}

/** Entries with consecutive positions: the first one's is `after + 1`. */
export interface RunPage {
  readonly run: RunRecord
  /** The position that was asked for, or the record's `start` if that is greater. */
  readonly after: number
  readonly entries: readonly string[]
}

/** What an append has changed. The record is that of the run after it. */
export type RunNews = RunPage
