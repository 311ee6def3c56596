/**
 * One log for all workers of a [`node:cluster`](https://nodejs.org/api/cluster.html): the primary keeps
 * the newest entries in its memory, and the workers read them through Node's IPC. The log lives as long
 * as the primary.
 *
 * Each side has one message in flight; whatever accumulates meanwhile goes into the next one. Messages
 * therefore grow under load, and a stopped process costs the others the memory of one message at most.
 *
 * @module koa-sse-pool/cluster
 */
import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import { SseError } from '../lib/errors.js'
import { MIB, type Rule, resolve, timeoutMs, whole } from '../lib/rules.js'
import type { Entry, EventLog, LogSink } from '../log/log.js'
import { type ForeignOptions, refuseForeignOptions } from '../log/shared.js'
import {
  isLogMessage,
  MESSAGE_CHARACTERS,
  messageHead,
  type NewEntry,
  primaryOf,
  type Request,
  type RequestMessage,
  type ResponseMessage,
  type Send,
  sizeOf,
} from './primary.js'

/** The options of {@link clusterLog}. `events` and `bytes` count where the primary first calls it. */
export interface ClusterLogOptions {
  /** Distinguishes several logs of one cluster, one for each pool; default `'default'`. */
  name?: string | undefined
  /**
   * How many entries the primary keeps for workers that start or lag, at least 1; default 10,000. The
   * oldest are dropped beyond it; a worker that still needed them starts over, with a gap for clients
   * whose cursor is gone.
   */
  events?: number | undefined
  /**
   * How many characters of entries the primary keeps, at least 1; default 32 Mi (33,554,432). The oldest
   * entries are dropped beyond it, as with `events`. The newest is always kept, however large it is.
   */
  bytes?: number | undefined
  /**
   * How long a worker waits for an answer of the primary, in ms, from 1 to 3,600,000; default 5000. Beyond
   * it the log is down until the primary answers, and appends that were sent reject with
   * `ERR_SSE_LOG_UNCERTAIN`.
   */
  timeout?: number | undefined
}

const RULES: Record<keyof ClusterLogOptions, Rule> = {
  name: { default: 'default', expected: 'a string', accepts: value => typeof value === 'string' },
  events: whole(10_000, Number.MAX_SAFE_INTEGER),
  bytes: whole(32 * MIB, Number.MAX_SAFE_INTEGER),
  timeout: timeoutMs(5000),
}

/** The names that the other engines use. */
const FOREIGN_OPTIONS: ForeignOptions = [
  [['key', 'stream', 'channel'], 'did you mean "name"?'],
  [['maxentries', 'maxlen', 'limit'], 'did you mean "events"?'],
  [['windowbytes', 'maxbytes'], 'did you mean "bytes"?'],
]

interface Options {
  readonly name: string
  readonly events: number
  readonly bytes: number
  readonly timeout: number
}

/**
 * Shares the events of a pool among the workers of a cluster, without a server. Call it in the primary,
 * before it forks, as well as in the workers, with the same `name`. A process outside of any cluster is
 * its own primary and has a log in memory.
 *
 * The primary must be your own code. In the cluster mode of pm2 it is not, so the log stays down, and the
 * pool emits an `error` that says why.
 *
 * The log ignores your own IPC messages. Your `message` listeners also receive those of the log, which
 * have `type: 'koa-sse-pool'`.
 *
 * An append rejects with an `SseError`: `ERR_SSE_LOG_DOWN` if the event was not stored,
 * `ERR_SSE_LOG_UNCERTAIN` if the answer was lost. `error.retry()` then stores it once, whatever had
 * happened.
 *
 * @example
 * ```js
 * import cluster from 'node:cluster'
 * import os from 'node:os'
 * import { ClientPool } from 'koa-sse-pool'
 * import { clusterLog } from 'koa-sse-pool/cluster'
 *
 * const log = clusterLog() // in the primary too
 * if (cluster.isPrimary) {
 *   for (let i = 0; i < os.availableParallelism(); i++) cluster.fork()
 * } else {
 *   const pool = new ClientPool({ log })
 *   pool.on('error', error => console.error(error.message))
 *   // … create the app and listen
 * }
 * ```
 *
 * @throws TypeError that names the option if one is unknown or invalid.
 */
export function clusterLog(options: ClusterLogOptions = {}): EventLog {
  refuseForeignOptions('clusterLog()', options, FOREIGN_OPTIONS)
  return new ClusterLog(resolve('clusterLog()', RULES, options) as unknown as Options)
}

interface Pending {
  readonly what: Request[1]
  readonly resolve: (id: string) => void
  readonly reject: (error: SseError) => void
}

/** The log in one process. */
class ClusterLog implements EventLog {
  readonly engine = 'node:cluster'
  readonly #options: Options
  readonly #member = randomBytes(9).toString('base64url')
  readonly #send: Send<RequestMessage>
  #sink: LogSink | undefined
  #onBoot = () => {}
  /** The suffix of all ids of this log; known once the first window has arrived. */
  #suffix: string | undefined
  /** The entries of a window that is still incomplete. */
  #window: Entry[] | undefined
  /** Requests that were not sent yet. */
  #queue: Request[] = []
  #isSending = false
  #lastNumber = 0
  #lastSent = 0
  readonly #pending = new Map<number, Pending>()
  #timer: NodeJS.Timeout | undefined
  /** Why no request can be made now; undefined while the log is up. */
  #downReason: string | undefined = 'it is not open'
  #closing: Promise<void> | undefined

  constructor(options: Options) {
    this.#options = options
    const { worker } = cluster
    if (worker) {
      this.#send = (message, done) => worker.send(message, done)
      return
    }
    const primary = primaryOf(options)
    const receive: Send<ResponseMessage> = (message, done) => {
      this.#receive(message)
      done(null)
    }
    this.#send = (message, done) => {
      primary.receive(message, receive)
      done(null)
    }
  }

  async open(sink: LogSink): Promise<void> {
    if (this.#sink)
      throw new TypeError('clusterLog(): a log can be opened once; create one for each pool')
    if (this.#closing) throw this.#error('ERR_SSE_LOG_DOWN', 'it is closed')
    this.#sink = sink
    this.#downReason = undefined
    cluster.worker?.on('message', this.#onMessage).on('disconnect', this.#onDisconnect)
    await new Promise<void>(resolve => {
      this.#onBoot = resolve
      this.#probe()
    })
  }

  async append(entry: NewEntry): Promise<string> {
    if (this.#downReason !== undefined) throw this.#error('ERR_SSE_LOG_DOWN', this.#downReason)
    return this.#request(entry)
  }

  compare(a: string, b: string): number {
    const suffix = this.#suffix
    if (suffix === undefined || !a.endsWith(suffix) || !b.endsWith(suffix)) return Number.NaN
    return Number.parseInt(a, 36) - Number.parseInt(b, 36)
  }

  async barrier(): Promise<string> {
    if (this.#downReason !== undefined) throw this.#error('ERR_SSE_LOG_DOWN', this.#downReason)
    return this.#request('last')
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // Answers arrive in order, so this one is the last, or it fails together with the others.
    const last =
      this.#downReason === undefined && this.#suffix !== undefined && this.#request('last')
    this.#downReason = 'it is closed'
    await Promise.resolve(last).catch(() => {})
    if (this.#sink) this.#enqueue('close')
    clearTimeout(this.#timer)
    cluster.worker?.off('message', this.#onMessage).off('disconnect', this.#onDisconnect)
  }

  #request(what: Request[1]): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#pending.set(this.#enqueue(what), { what, resolve, reject })
      if (this.#timer === undefined) this.#restartTimeout()
    })
  }

  #enqueue(what: Request[1]): number {
    this.#lastNumber += 1
    this.#queue.push([this.#lastNumber, what])
    this.#flush()
    return this.#lastNumber
  }

  /** Any answer shows that the primary is alive, and the first one brings the window. */
  #probe(): void {
    this.#request('last').catch(() => {})
  }

  #flush(): void {
    if (this.#isSending || this.#queue.length === 0) return
    this.#isSending = true
    setImmediate(() => {
      let count = 0
      for (let size = 0; size < MESSAGE_CHARACTERS && count < this.#queue.length; count++) {
        const [number, what] = this.#queue[count] as Request
        this.#lastSent = number
        size += typeof what === 'string' ? 0 : sizeOf(what)
      }
      const requests = this.#queue.splice(0, count)
      this.#send({ ...messageHead(this.#options.name, this.#member), requests }, error => {
        this.#isSending = false
        if (error) this.#onDisconnect()
        else this.#flush()
      })
    })
  }

  readonly #onMessage = (message: unknown) => {
    if (isLogMessage<ResponseMessage>(message) && message.member === this.#member)
      this.#receive(message)
  }

  #receive(message: ResponseMessage): void {
    if (!this.#closing) this.#follow(message)
    for (const [number, id] of message.ids) {
      this.#pending.get(number)?.resolve(id)
      this.#pending.delete(number)
    }
    this.#restartTimeout()
  }

  #follow({ entries, startsWindow, hasMore }: ResponseMessage): void {
    if (startsWindow) this.#window = []
    this.#window?.push(...entries)
    if (this.#window === undefined) {
      if (entries.length > 0) this.#sink?.append(entries)
    } else if (!hasMore) {
      const window = this.#window
      const reason = this.#suffix === undefined ? 'boot' : 'trimmed'
      this.#window = undefined
      this.#suffix = window[0]?.id.replace(/^[^-]+/, '')
      this.#sink?.reset(window, reason)
      this.#onBoot()
    }
    if (this.#downReason === undefined) return
    this.#downReason = undefined
    this.#sink?.state(true)
  }

  #restartTimeout(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#pending.size === 0) return
    // If this process was blocked, answers may have arrived unread: let pending I/O run first.
    const timer = setTimeout(() => {
      setImmediate(() => this.#timer === timer && this.#onTimeout())
    }, this.#options.timeout)
    this.#timer = timer
  }

  #onTimeout(): void {
    this.#fail('the primary does not answer; has it called clusterLog() with the same name?')
    if (!this.#closing) this.#probe()
  }

  readonly #onDisconnect = () => this.#fail('the primary is gone, or has disconnected this worker')

  #fail(reason: string): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const pending = [...this.#pending]
    this.#pending.clear()
    this.#queue = []
    const wasUp = this.#downReason === undefined
    // Set before anything is rejected or reported, because a listener may append at once.
    if (!this.#closing) this.#downReason = reason
    for (const [number, { what, reject }] of pending) {
      const isLost = typeof what !== 'string' && number <= this.#lastSent
      reject(this.#error(isLost ? 'ERR_SSE_LOG_UNCERTAIN' : 'ERR_SSE_LOG_DOWN', reason))
    }
    if (!wasUp) return
    this.#sink?.error?.(this.#error('ERR_SSE_LOG_DOWN', reason))
    this.#sink?.state(false)
  }

  #error(code: 'ERR_SSE_LOG_DOWN' | 'ERR_SSE_LOG_UNCERTAIN', why: string): SseError {
    const what = code === 'ERR_SSE_LOG_DOWN' ? 'out of reach' : 'the entry may or may not be stored'
    return new SseError(code, `clusterLog(): "${this.#options.name}": ${what}: ${why}`)
  }
}
