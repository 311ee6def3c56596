/**
 * One log for all workers of a `node:cluster`: the primary keeps the newest entries in its memory,
 * and the workers follow them over Node's own IPC. It lives as long as the primary does.
 *
 * ```js
 * const log = clusterLog() // in the primary too, before it forks
 * if (cluster.isPrimary) for (const _ of os.cpus()) cluster.fork()
 * else serve(new ClientPool({ log }))
 * ```
 *
 * Each side has one message under way at a time; what comes up meanwhile goes into the next. So
 * messages grow under load, and a process that is stopped costs the others no more than one.
 */
import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import { SseError } from '../lib/errors.js'
import { MIB, type Rule, resolve, timeoutMs, whole } from '../lib/rules.js'
import type { Entry, EventLog, LogSink } from '../log/log.js'
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

export interface ClusterLogOptions {
  /** Tells several logs of one cluster apart. Default `'default'`. */
  name?: string | undefined
  /** How many entries the primary keeps, for workers that start or lag. Default 10 000. */
  events?: number | undefined
  /** How much it keeps of them, in characters. Default 32 Mi. The first call in the primary decides. */
  bytes?: number | undefined
  /** After how many ms without an answer the primary counts as lost. Default 5000. */
  timeout?: number | undefined
}

const RULES: Record<keyof ClusterLogOptions, Rule> = {
  name: { default: 'default', expected: 'a string', accepts: value => typeof value === 'string' },
  events: whole(10_000, Number.MAX_SAFE_INTEGER),
  bytes: whole(32 * MIB, Number.MAX_SAFE_INTEGER),
  timeout: timeoutMs(5000),
}

interface Options {
  readonly name: string
  readonly events: number
  readonly bytes: number
  readonly timeout: number
}

/**
 * To be called in the primary as well as in the workers, with the same name. A process outside of
 * any cluster is its own primary, and has a log in memory. Where the primary is not your code, as in
 * pm2's cluster mode, there is nobody to ask: the log is down, and says why.
 *
 * Messages of your own are left alone; your listeners also see ours, with `type: 'koa-sse-pool'`.
 *
 * @throws TypeError that names the option, when one is unknown or wrong.
 */
export function clusterLog(options: ClusterLogOptions = {}): EventLog {
  return new ClusterLog(resolve('clusterLog()', RULES, options) as unknown as Options)
}

interface Pending {
  readonly what: Request[1]
  readonly resolve: (id: string) => void
  readonly reject: (error: SseError) => void
}

/** The log as one process has it. */
class ClusterLog implements EventLog {
  readonly #options: Options
  readonly #member = randomBytes(9).toString('base64url')
  readonly #send: Send<RequestMessage>
  #sink: LogSink | undefined
  #onBoot = () => {}
  /** Known from the first window on. */
  #suffix: string | undefined
  /** What has come of a window that is not whole yet. */
  #window: Entry[] | undefined
  /** Not sent yet. */
  #queue: Request[] = []
  #isSending = false
  #lastNumber = 0
  #lastSent = 0
  readonly #pending = new Map<number, Pending>()
  #timer: NodeJS.Timeout | undefined
  /** Why nothing can be asked now. */
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
    if (this.#sink) throw new TypeError('clusterLog(): a log is opened once only')
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
    // Answers are in order, so this one is the last to come, or it fails together with the others.
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

  /** Whatever is answered shows that the primary is there, and the first time brings the window. */
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
    // Judged after the messages that have arrived: perhaps only this process was slow to read them.
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
    // First of all, as whoever is told may append at once.
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
