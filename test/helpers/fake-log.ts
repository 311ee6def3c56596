import type { Entry, EventLog, LogSink } from 'koa-sse-pool'
import { MESSAGE } from '../../src/log/messages.js'
import { deferred } from './app.js'

/**
 * A log on an imaginary engine, for one pool. The test decides when it opens, when it answers, and
 * when entries reach this process. Messages between processes are accepted and dropped: they would
 * shift the ids that tests name.
 *
 * Ids are `1`, `2`, … or, with an epoch, `a-1`, `a-2`, …
 */
export class FakeLog implements EventLog {
  /** The first part of each id. A new one makes this another log. */
  epoch: string
  /** What the engine has. */
  stored: Entry[] = []
  /** How many of those have reached this process. */
  seen = 0
  /** Whether appended entries reach this process at once, or only when the test calls `deliver()`. */
  isLive = true
  /** Whether `open()` fills the window, or waits until the test calls `boot()` or `failBoot()`. */
  boots = true
  /** Whether messages between processes are stored, instead of dropped. */
  acceptsMessages = false
  /** How often `barrier()` was called. */
  barriers = 0
  /** What `barrier()` awaits before it looks. */
  beforeBarrier: () => Promise<void> = async () => {}
  /** What `append()` awaits before it stores an entry. */
  beforeAppend: () => Promise<void> = async () => {}
  /** What `append()` awaits before it accepts a message between processes. */
  beforeMessage: () => Promise<void> = async () => {}
  sink!: LogSink
  readonly #booted = deferred()

  constructor(epoch = '') {
    this.epoch = epoch
  }

  async open(sink: LogSink): Promise<void> {
    this.sink = sink
    if (this.boots) this.boot()
    await this.#booted.promise
  }

  boot(): void {
    this.reset('boot')
    this.#booted.resolve()
  }

  failBoot(error: Error): void {
    this.#booted.reject(error)
  }

  /** Fills the window with everything that is stored, and with the mark that begins each log. */
  reset(reason: Parameters<LogSink['reset']>[1]): void {
    this.seen = this.stored.length
    const [first] = this.stored
    // A message is first only where the mark was trimmed.
    const isWhole = first?.id === `${this.#prefix}1` && first.target !== MESSAGE
    const mark = { id: `${this.#prefix}0`, nonce: '', target: '', frame: '' }
    this.sink.reset(isWhole ? [mark, ...this.stored] : [...this.stored], reason)
  }

  async append(entry: Omit<Entry, 'id'>): Promise<string> {
    if (entry.target === MESSAGE && !this.acceptsMessages) {
      await this.beforeMessage()
      return ''
    }
    await this.beforeAppend()
    const id = this.store(entry)
    if (this.isLive) this.deliver()
    return id
  }

  /** Stores an entry as if another process had sent it; a string is data for everyone. */
  store(entry: Omit<Entry, 'id'> | string): string {
    const id = `${this.#prefix}${this.stored.length + 1}`
    const fields =
      typeof entry === 'string' ? { nonce: id, target: '*', frame: `data: ${entry}\n\n` } : entry
    this.stored.push({ ...fields, id })
    return id
  }

  /** Hands this process every stored entry that has not reached it yet. */
  deliver(): void {
    const fresh = this.stored.slice(this.seen)
    this.seen = this.stored.length
    this.sink.append(fresh)
  }

  compare(a: string, b: string): number {
    const ours = new RegExp(`^${this.#prefix}(\\d+)$`)
    return Number(ours.exec(a)?.[1]) - Number(ours.exec(b)?.[1])
  }

  async barrier(): Promise<string | null> {
    this.barriers += 1
    await this.beforeBarrier()
    return this.stored.at(-1)?.id ?? null
  }

  async close(): Promise<void> {}

  get #prefix(): string {
    return this.epoch && `${this.epoch}-`
  }
}
