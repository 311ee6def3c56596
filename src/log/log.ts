/**
 * The engine interface: an ordered record of entries, shared by all processes of a pool.
 *
 * An engine stores entries, assigns their ids and shows every process the same order. It knows
 * nothing about clients, sockets or HTTP.
 */

/** One event in the log. */
export interface Entry {
  /**
   * Assigned by the engine, which is the only one to interpret it: `[0-9A-Za-z_-]`, at most 64
   * characters, because clients send it back in the `Last-Event-ID` header.
   */
  readonly id: string
  /**
   * Identifies this append: 1 to 32 of the characters `[0-9A-Za-z_-]`. Appending the same nonce again
   * must give readers one entry.
   */
  readonly nonce: string
  /**
   * The recipients, in the encoding of the pool; an engine stores any string unchanged. `''` makes the
   * entry a mark, which nobody receives.
   */
  readonly target: string
  /** Supersedes earlier entries with the same key and target. */
  readonly key?: string | undefined
  /** The encoded event without its `id:` line. */
  readonly frame: string
}

/** What a log reports to the process that has opened it. All methods are called synchronously. */
export interface LogSink {
  /**
   * Replaces the whole window, oldest entry first.
   *
   * - `boot`: the first window after `open`.
   * - `trimmed`: the log is the same, but entries were deleted before this process read them.
   * - `replaced`: this is a different log, such as after a restart without data; ids from before
   *   mean nothing in it.
   *
   * @param window Never empty; see {@link EventLog.open}.
   */
  reset(window: readonly Entry[], reason: 'boot' | 'trimmed' | 'replaced'): void
  /** New entries, in log order. Each entry is delivered once, even if it was appended twice. */
  append(entries: readonly Entry[]): void
  /** Whether the engine can be reached. A sink assumes that it is up until told otherwise. */
  state(up: boolean): void
  /**
   * A failure that rejects no call, such as a lost connection; it becomes the pool's `error` event.
   * Report each kind of error once per outage, not once per attempt.
   */
  error(error: unknown): void
}

/**
 * An engine: implement this to store a pool's events elsewhere, and run `eventLogSuite` from
 * `koa-sse-pool/testing` against it.
 *
 * **An empty log needs a mark.** If the log holds no entry when it is opened, or loses all of them,
 * the engine must append one with target `''`, which nobody receives. Its id is the cursor of every
 * client that connects before the first event. Without a mark these clients have no cursor: one that
 * loses its connection then misses the events sent before it reconnects, and no gap is reported.
 */
export interface EventLog {
  /** What people call the engine, such as `'Redis'`; the inspector shows it. Default: none. */
  readonly engine?: string | undefined
  /**
   * Starts to feed the sink. Called once, and the log cannot be opened again after `close`.
   *
   * @returns A promise that resolves once the first `reset` was delivered. While the engine is
   * unreachable it stays pending, and the log keeps trying. It rejects if waiting cannot help, such
   * as for a log that was closed.
   */
  open(sink: LogSink): Promise<void>
  /**
   * Stores an entry.
   *
   * @returns The id under which readers see the entry, also when the same nonce was stored before.
   * Rejects with an `SseError`: `ERR_SSE_LOG_DOWN` if the entry was not stored,
   * `ERR_SSE_LOG_UNCERTAIN` if it may have been, such as after a lost reply. The caller may then append
   * the same nonce again.
   *
   * @param transaction a transaction of the caller's, only passed if {@link takesTransactions}. Readers then
   * see the entry after the commit and never after a rollback. The promise resolves as soon as the row is
   * written in the transaction, and must not wait for the commit: to the id if it is known by then, else to
   * `''`. Throws a `TypeError` for a transaction of another kind.
   */
  append(entry: Omit<Entry, 'id'>, transaction?: unknown): Promise<string>
  /**
   * Whether `append` can store an entry in a transaction of the caller's. The pool refuses the option
   * `transaction` for other logs, which would deliver the event even after a rollback.
   */
  readonly takesTransactions?: true | undefined
  /**
   * The order of two ids in the log: negative, zero or positive; `NaN` if either is not an id of this
   * log. Ids come from clients, so any string must be handled, and quickly.
   */
  compare(a: string, b: string): number
  /**
   * The id of the last entry, read from the engine after the call and not from what this process has
   * seen; `null` while the log is empty. A reader that has everything up to this id is up to date.
   * Rejects with `ERR_SSE_LOG_DOWN` if the engine cannot be reached.
   */
  barrier(): Promise<string | null>
  /**
   * Stops feeding the sink and frees what the log itself opened, but never the user's own client.
   * Appends under way settle first. May be called more than once.
   */
  close(): Promise<void>
}

/** The recipients of an entry. */
export interface TargetAddress {
  /**
   * `remove` ends the streams of the client, and `removeMembers` those in the channel, instead of
   * delivering anything.
   */
  readonly kind: 'everyone' | 'client' | 'channel' | 'remove' | 'removeMembers'
  /** The client's id or the channel's name; empty for everyone. */
  readonly name: string
  /** The ids of clients that are left out; one alone is a string. */
  readonly except?: string | readonly string[] | undefined
  /** Further channels, whose members get the entry too, each of them once. Only for a channel. */
  readonly also?: readonly string[] | undefined
  /** When it expires, in milliseconds since the epoch by the sender's clock. */
  readonly until?: number | undefined
  /** Only readers that are connected when the entry arrives get it. */
  readonly volatile?: boolean | undefined
  /** The W3C `traceparent` of the send, if it is traced. */
  readonly trace?: string | undefined
}

const SIGILS = {
  everyone: '*',
  client: '@',
  channel: '#',
  remove: '-',
  removeMembers: '!',
} as const

/**
 * `*`, `@client`, `#channel`, `-client` or `!channel`, followed by a line for each exception and each
 * property. Lines of properties begin with a tab; versions that do not know a property ignore its line.
 *
 * Versions that know one exception at most take all these lines for one id, which no client has. They
 * deliver such an entry to all members of its first target.
 */
export function formatTarget({
  kind,
  name,
  except,
  also,
  until,
  volatile,
  trace,
}: TargetAddress): string {
  // Ids and names cannot contain control characters, so no name can pass for another line.
  let target = SIGILS[kind] + name
  if (except !== undefined) for (const id of idsOf(except)) target += `\n${id}`
  if (also !== undefined) for (const channel of also) target += `\n\t#${channel}`
  if (until !== undefined) target += `\n\t<${until}`
  if (volatile) target += '\n\t~'
  if (trace !== undefined) target += `\n\t=${trace}`
  return target
}

/** Undefined for a mark, and for kinds of targets that a newer version may have written. */
export function parseTarget(target: string): TargetAddress | undefined {
  const kind = KINDS[target[0] ?? '']
  if (kind === undefined) return undefined
  const end = target.indexOf('\n')
  if (end === -1) return { kind, name: target.slice(1) }
  const name = target.slice(1, end)
  const except: string[] = []
  const also = new Set<string>()
  let until: number | undefined
  let volatile = false
  let trace: string | undefined
  for (const line of target.slice(end + 1).split('\n')) {
    if (line[0] !== '\t') except.push(line)
    else if (line[1] === '#' && line.length > 2 && kind === 'channel') also.add(line.slice(2))
    else if (/^\t<\d{1,15}$/.test(line)) until = Number(line.slice(2))
    else if (line === '\t~') volatile = true
    else if (line[1] === '=') trace = line.slice(2)
  }
  // A second time in the same target, the entry would be delivered twice.
  also.delete(name)
  return {
    ...{ kind, name },
    ...(except.length > 0 && { except: except.length === 1 ? except[0] : except }),
    ...(also.size > 0 && { also: [...also] }),
    ...(until !== undefined && { until }),
    ...(volatile && { volatile }),
    ...(trace !== undefined && { trace }),
  }
}

/** The ids that an address leaves out. */
export function idsOf(except: string | readonly string[]): readonly string[] {
  return typeof except === 'string' ? [except] : except
}

/** The target whose members an entry concerns: an exception or a removal makes no other target. */
export function targetOfMembers({ kind, name }: TargetAddress): string {
  if (kind === 'remove') return formatTarget({ kind: 'client', name })
  return formatTarget({ kind: kind === 'removeMembers' ? 'channel' : kind, name })
}

/** The targets of the further channels that an entry is sent to. */
export function furtherTargets({ also = [] }: TargetAddress): string[] {
  return also.map(name => formatTarget({ kind: 'channel', name }))
}

const KINDS: Record<string, TargetAddress['kind']> = {
  '*': 'everyone',
  '@': 'client',
  '#': 'channel',
  '-': 'remove',
  '!': 'removeMembers',
}
