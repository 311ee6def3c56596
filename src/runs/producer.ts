/**
 * The one that makes a run, on the process that started it. Its events wait here until the store has taken them:
 * a little, so that many tokens cost one write, and up to a limit, beyond which `append` makes the producer wait.
 */
import { SseError } from '../lib/errors.js'
import type { RunNews, RunRecord, RunStore } from '../log/run-store.js'
import { type Ending, endingOf, formatEnding } from './state.js'

/** What a producer function gets. */
export interface Run<Event = unknown> {
  readonly id: string
  /**
   * Aborts when the run is stopped, by any process, and when it is lost; never because a reader leaves. Pass it
   * to the model: `generate({ signal: run.signal })`. Its reason is an {@link SseError} `ERR_SSE_RUN_ENDED` with
   * the name `AbortError`.
   */
  readonly signal: AbortSignal
  /**
   * Appends an event. Resolves when there is room for more, which is at once as long as the store keeps up; the
   * event is stored soon after. Await it, or a producer that is faster than the store fills the memory.
   *
   * @throws TypeError that names the field, when the event is wrong.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over the pool's `maxEventBytes`; `ERR_SSE_RUN_ENDED` once the run
   * has ended, been stopped or been lost.
   */
  append(event: Event): Promise<void>
  /**
   * Resolves when everything appended so far is stored. Not needed at the end: the run ends after its last event.
   *
   * @throws SseError `ERR_SSE_RUN_ENDED` if it was stopped or lost before.
   */
  flush(): Promise<void>
}

export interface ProducerHost {
  readonly store: RunStore
  readonly linger: number
  /** How long the store keeps the run open without a sign of life, in milliseconds. */
  readonly lease: number
  error(error: unknown): void
}

/** Characters that may wait for the store before `append` waits. */
const HIGH_WATER = 64 * 1024

/** Between two attempts while the store is out of reach, in milliseconds; the last one for all others. */
const RETRY_MS = [100, 200, 500, 1000]

export class Producer {
  readonly id: string
  readonly #host: ProducerHost
  readonly generation: string
  readonly #controller = new AbortController()
  #waiting: string[] = []
  #waitingLength = 0
  /** The number of its next append: a repetition has the same, so that it is stored once. */
  #seq = 0
  #isFlushing = false
  #flushTimer: NodeJS.Timeout | NodeJS.Immediate | undefined
  #flushedAt = Number.NEGATIVE_INFINITY
  /** When the last call began that the store has confirmed. */
  #confirmedAt = performance.now()
  #ending: Ending | undefined
  /** Why nothing can be appended any more. */
  #over: SseError | undefined
  #waiters: (() => void)[] = []
  readonly #unwatch: () => void

  constructor(id: string, { generation }: RunRecord, host: ProducerHost) {
    this.id = id
    this.generation = generation
    this.#host = host
    // Another process may stop the run, or see its lease run out.
    this.#unwatch = host.store.watch(id, news => this.#receive(news))
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get isOver(): boolean {
    return this.#over !== undefined
  }

  async append(frame: string): Promise<void> {
    if (this.#over !== undefined) throw this.#over
    if (this.#ending !== undefined) throw endedError(this.id, this.#ending)
    this.#waiting.push(frame)
    this.#waitingLength += frame.length
    this.#schedule()
    while (this.#waitingLength >= HIGH_WATER) {
      await this.#progress()
      if (this.#over !== undefined) throw this.#over
    }
  }

  async flush(): Promise<void> {
    const target = this.#seq + (this.#isFlushing ? 1 : 0) + (this.#waiting.length > 0 ? 1 : 0)
    this.#flushNow()
    while (this.#seq < target) {
      if (this.#over !== undefined) throw this.#over
      await this.#progress()
    }
  }

  /** Ends the run after everything that was appended. Resolves when that is stored, or another has ended it. */
  async end(ending: Ending): Promise<void> {
    if (this.#over !== undefined) return
    this.#ending = ending
    this.#flushNow()
    while (this.#over === undefined) await this.#progress()
  }

  /** Tells the store that it is alive. To be called more often than once in a lease. */
  async renew(): Promise<void> {
    const now = performance.now()
    const { lease } = this.#host
    // By now the store has ended the run, even if it cannot say so: what is still made would be paid for nothing.
    if (now - this.#confirmedAt > lease) this.lose()
    if (this.isOver || this.#isFlushing || now - this.#confirmedAt < lease / 3) return
    try {
      this.#check(await this.#host.store.renew(this.id))
      this.#confirmedAt = now
    } catch (error) {
      this.#host.error(error)
    }
  }

  /** Its run is lost, or ended by another: nothing more is stored. */
  lose(run?: RunRecord): void {
    if (this.isOver) return
    const isOurs = run?.generation === this.generation && run.status === 'ended'
    this.#finish(endedError(this.id, isOurs ? endingOf(run) : { state: 'lost' }))
    this.#controller.abort(this.#over)
  }

  #schedule(): void {
    if (this.#isFlushing || this.#flushTimer !== undefined || this.isOver) return
    const delay = this.#flushedAt + this.#host.linger - performance.now()
    const flush = () => {
      this.#flushTimer = undefined
      void this.#flush()
    }
    // What comes in the same turn goes together.
    this.#flushTimer = delay > 0 ? setTimeout(flush, delay) : setImmediate(flush)
  }

  #flushNow(): void {
    if (this.#flushTimer !== undefined) {
      clearTimeout(this.#flushTimer as NodeJS.Timeout)
      clearImmediate(this.#flushTimer as NodeJS.Immediate)
      this.#flushTimer = undefined
    }
    void this.#flush()
  }

  async #flush(): Promise<void> {
    if (this.#isFlushing || this.isOver) return
    const isLast = this.#ending !== undefined
    if (this.#waiting.length === 0 && !isLast) return
    this.#isFlushing = true
    const entries = this.#waiting
    this.#waiting = []
    this.#waitingLength = 0
    this.#flushedAt = performance.now()
    await this.#store(entries, this.#ending)
    this.#isFlushing = false
    if (isLast) this.#finish(endedError(this.id, this.#ending as Ending))
    this.#settle()
    if (this.#ending !== undefined) void this.#flush()
    else if (this.#waiting.length > 0) this.#schedule()
  }

  /** Until the store has answered: what it may have stored already is stored once. */
  async #store(entries: readonly string[], ending: Ending | undefined): Promise<void> {
    for (let attempt = 0; !this.isOver; attempt++) {
      const now = performance.now()
      try {
        const { outcome, run } = await this.#host.store.append(this.id, {
          entries,
          ending: ending && formatEnding(ending),
          generation: this.generation,
          producer: { id: PRODUCER, epoch: 0, seq: this.#seq },
        })
        if (outcome !== 'appended' && outcome !== 'duplicate') return this.lose(run)
        this.#seq += 1
        this.#confirmedAt = now
        return
      } catch (error) {
        if (attempt === 0) this.#host.error(error)
        const delay = RETRY_MS[attempt] ?? 1000
        await new Promise(resolve => setTimeout(resolve, delay))
      }
    }
  }

  #receive(news: RunNews | undefined): void {
    if (this.isOver) return
    if (news !== undefined) this.#check(news.run)
    else {
      this.#host.store.get(this.id).then(
        record => this.#check(record),
        // The store is out of reach; the next append finds out.
        () => {},
      )
    }
  }

  /** Whether another has ended the run. */
  #check(record: RunRecord | undefined): void {
    if (this.isOver) return
    const isOurs = record?.generation === this.generation
    if (isOurs && record.status === 'open') return
    // Our own end comes back as news before its reply.
    if (isOurs && this.#ending !== undefined && record.ending === formatEnding(this.#ending)) return
    this.lose(record)
  }

  #finish(why: SseError): void {
    if (this.isOver) return
    this.#over = why
    this.#waiting = []
    this.#waitingLength = 0
    this.#unwatch()
    this.#settle()
  }

  #progress(): Promise<void> {
    return new Promise(resolve => {
      this.#waiters.push(resolve)
    })
  }

  #settle(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const resolve of waiters) resolve()
  }
}

/** The id under which the store counts its appends. */
const PRODUCER = 'run'

function endedError(id: string, { state }: Ending): SseError {
  const error = new SseError('ERR_SSE_RUN_ENDED', `The run "${id}" has ended: ${state}`)
  // `fetch` rejects with the reason of its signal, and code that is stopped by one knows an abort by this name.
  return Object.defineProperty(error, 'name', { value: 'AbortError' })
}
