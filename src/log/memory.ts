/**
 * The default log: this process's memory, synchronous inside. The window is all there is of it, so
 * it stores nothing itself; it only counts.
 */
import { randomBytes } from 'node:crypto'
import { SseError } from '../lib/errors.js'
import type { Entry, EventLog, LogSink } from './log.js'

export class MemoryLog implements EventLog {
  /** Tells this log's ids from those of every other, such as before a restart. */
  readonly #suffix = `-${randomBytes(6).toString('hex')}`
  #sequence = 0
  #sink: LogSink | undefined
  #isClosed = false

  async open(sink: LogSink): Promise<void> {
    this.#sink = sink
    // A mark before the first event, so that there is a cursor to resume from even then: a client
    // that was cut off before anything was sent must not miss the event sent while it was away.
    sink.reset([{ id: `0${this.#suffix}`, nonce: '', target: '', frame: '' }], 'boot')
  }

  async append(entry: Omit<Entry, 'id'>): Promise<string> {
    if (this.#isClosed) throw new SseError('ERR_SSE_LOG_DOWN', 'The log is closed')
    // A counter and no clock: ids still rise when the clock is set back.
    this.#sequence += 1
    const id = this.#sequence.toString(36) + this.#suffix
    this.#sink?.append([{ ...entry, id }])
    return id
  }

  compare(a: string, b: string): number {
    if (!a.endsWith(this.#suffix) || !b.endsWith(this.#suffix)) return Number.NaN
    return Number.parseInt(a, 36) - Number.parseInt(b, 36)
  }

  async barrier(): Promise<string> {
    return this.#sequence.toString(36) + this.#suffix
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#sink = undefined
  }
}
