/**
 * The default log: this process's memory. The pool's window already holds the entries, so this log
 * stores nothing and only assigns ids. Everything in it is synchronous.
 */
import { randomBytes } from 'node:crypto'
import { SseError } from '../lib/errors.js'
import type { Entry, EventLog, LogSink } from './log.js'

export class MemoryLog implements EventLog {
  /** Distinguishes this log's ids from those of other logs, such as the one before a restart. */
  readonly #suffix = `-${randomBytes(6).toString('hex')}`
  #sequence = 0
  #sink: LogSink | undefined
  #isClosed = false

  async open(sink: LogSink): Promise<void> {
    this.#sink = sink
    // Begin with a mark, so that clients have a cursor before the first event. Otherwise a client that
    // loses its connection by then would miss what is sent before it reconnects.
    sink.reset([{ id: `0${this.#suffix}`, nonce: '', target: '', frame: '' }], 'boot')
  }

  async append(entry: Omit<Entry, 'id'>): Promise<string> {
    if (this.#isClosed) throw new SseError('ERR_SSE_LOG_DOWN', 'The log is closed')
    // A counter instead of a clock: ids must still rise when the clock is set back.
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
