/**
 * The engine interface: an ordered record of entries, shared by all processes of a pool.
 *
 * An engine stores entries, gives them ids, and shows every process the same order. It knows
 * nothing of clients, sockets or HTTP.
 */

/** One event in the log. */
export interface Entry {
  /** `[0-9A-Za-z_-]`, at most 64 bytes; only the engine that gave it can read it. */
  readonly id: string
  /** Tells this append from every other, so that repeating it stores one entry. */
  readonly nonce: string
  /** Whom it is for, as written by {@link formatTarget}; `''` is a mark that nobody receives. */
  readonly target: string
  /** Supersedes earlier entries of the same key and target. */
  readonly key?: string
  /** The encoded event without its `id:` line. */
  readonly frame: string
}

/** What a log tells the process that has opened it. */
export interface LogSink {
  /**
   * The window anew: `boot` at the first time, `trimmed` when continuity was lost, `replaced` when
   * this is another log than before.
   */
  reset(window: readonly Entry[], reason: 'boot' | 'trimmed' | 'replaced'): void
  /** New entries, in order. */
  append(entries: readonly Entry[]): void
  /** Whether the engine can be reached; assumed up until told otherwise. */
  state(up: boolean): void
  /** A failure that is nobody's rejection, once for each; it becomes the pool's `error` event. */
  error(error: unknown): void
}

export interface EventLog {
  /** Starts to feed the sink; resolves when the first `reset` has been given. */
  open(sink: LogSink): Promise<void>
  /**
   * Stores an entry and resolves to its id; rejects with an SseError `ERR_SSE_LOG_DOWN` when it was
   * not stored, and `ERR_SSE_LOG_UNCERTAIN` when nobody can know.
   */
  append(entry: Omit<Entry, 'id'>): Promise<string>
  /** Order in the log: negative, zero or positive; `NaN` when either is no id of this log. */
  compare(a: string, b: string): number
  /** The id of the last entry, asked for after the call; null while the log is empty. */
  barrier(): Promise<string | null>
  /** Stops feeding the sink and frees what the log itself opened, never the user's own client. */
  close(): Promise<void>
}

/** Whom an entry is for. */
export interface TargetAddress {
  readonly kind: 'everyone' | 'client' | 'channel' | 'remove'
  /** The client's id or the channel's name; empty for everyone. */
  readonly name: string
  /** The id of a client that is left out. */
  readonly except?: string | undefined
}

const SIGILS = { everyone: '*', client: '@', channel: '#', remove: '-' } as const

/** `*`, `@client`, `#channel` or `-client`, then a line break and the exception, if there is one. */
export function formatTarget({ kind, name, except }: TargetAddress): string {
  // Ids and names cannot contain a line break, so nothing in them can pass for an exception.
  return except === undefined ? SIGILS[kind] + name : `${SIGILS[kind]}${name}\n${except}`
}

/** Undefined for a mark, and for what a newer version may have written. */
export function parseTarget(target: string): TargetAddress | undefined {
  const kind = KINDS[target[0] ?? '']
  if (kind === undefined) return undefined
  const end = target.indexOf('\n')
  return end === -1
    ? { kind, name: target.slice(1) }
    : { kind, name: target.slice(1, end), except: target.slice(end + 1) }
}

const KINDS: Record<string, TargetAddress['kind']> = {
  '*': 'everyone',
  '@': 'client',
  '#': 'channel',
  '-': 'remove',
}
