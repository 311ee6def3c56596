/**
 * Runs: streams of events that begin and end, and outlive their readers. A producer makes one, once; any number of
 * readers get it from the beginning, or from where they were.
 *
 * The run's log is the only queue, and readers hold offsets: see docs/architecture.md.
 */
import type { Context, Middleware } from 'koa'
import type { Reader } from '../delivery/reader.js'
import { eventStreams } from '../koa/middleware.js'
import { got, SseError } from '../lib/errors.js'
import { isClientId } from '../lib/names.js'
import { newGeneration } from '../lib/random.js'
import { isFunction } from '../lib/rules.js'
import type { RunRecord } from '../log/run-store.js'
import { type Hub, hubOf } from '../pool/hub.js'
import { type EventMap, encodePoolEvent, type PoolEvent } from '../wire/event.js'
import { FORMATS, type Format } from './formats.js'
import {
  type ResolvedRunsOptions,
  type RunStreamOptions,
  type RunsOptions,
  resolveRuns,
  resolveStart,
  resolveStream,
  type StartOptions,
} from './options.js'
import { Producer, type Run } from './producer.js'
import { type ReadOptions, type RunEvent, readRun } from './read.js'
import { RunFeed } from './run-feed.js'
import { RunPages } from './run-pages.js'
import { formatEnding, infoOf, type RunInfo } from './state.js'

/** An event of a run: that of a pool, without `key`, `ttl` and `volatile`, because a run keeps every event. */
export type RunAppendable<Events extends object = EventMap> = PoolEvent<Events> & {
  key?: undefined
  ttl?: undefined
  volatile?: undefined
}

const NOT_IN_RUNS = ['key', 'ttl', 'volatile'] as const

/** What {@link Runs.start} returns. */
export interface Started extends RunInfo {
  /** Whether there was a run of this id already, so that nothing was started. */
  readonly joined: boolean
}

/**
 * Runs and their readers. One for an app, or one for each kind of run; several processes share them through
 * their store.
 *
 * @example
 * ```js
 * const runs = new Runs({ pool })
 *
 * router.post('/answers/:id', async ctx => {
 *   await runs.start(ctx.params.id, async run => {
 *     for await (const token of generate({ signal: run.signal })) {
 *       await run.append({ event: 'token', data: token })
 *     }
 *   })
 *   ctx.status = 202
 * })
 * router.get('/answers/:id', runs.stream({ id: ctx => ctx.params.id }))
 * router.delete('/answers/:id', async ctx => {
 *   ctx.status = (await runs.stop(ctx.params.id)) ? 202 : 404
 * })
 * ```
 */
export class Runs<Events extends object = EventMap> {
  readonly #options: ResolvedRunsOptions
  readonly #hub: Hub
  /** The producers on this process, by run. */
  readonly #producers = new Map<string, Producer>()
  readonly #finished = new Map<Producer, Promise<void>>()
  /** The runs that are read on this process. */
  readonly #feeds = new Map<string, RunFeed>()
  #renewTimer: NodeJS.Timeout | undefined
  #isStoreDown = false
  #closing: Promise<void> | undefined

  /** @throws TypeError that names the option, when one is unknown, missing or wrong. */
  constructor(options: RunsOptions) {
    this.#options = resolveRuns(options)
    this.#hub = hubOf(this.#options.pool)
  }

  /**
   * Starts a run, unless there is one of this id. Resolves once it has begun; the producer then works on, whether or
   * not anything reads. When it returns, the run ends as `done`; when it throws, as `failed`, and the pool emits
   * the error as `error`.
   *
   * Nothing is started twice: a second request with the same id joins the run that there is, also if that has
   * ended, and also at the same time on another process.
   *
   * @param id 1 to 256 characters. One for each piece of work: for a chat, that of the user's message and not that
   * of the conversation.
   * @throws TypeError for a wrong id or option.
   * @throws SseError `ERR_SSE_RUN_EXISTS` with `onDuplicate: 'reject'`, and if the store has a durable stream of this
   * id; `ERR_SSE_RUN_EXPIRED` for the id of a run
   * that has expired; `ERR_SSE_LOG_DOWN` or `ERR_SSE_LOG_UNCERTAIN` if the store cannot be reached: the producer
   * was not called then.
   */
  async start(
    id: string,
    producer: (run: Run<RunAppendable<Events>>) => Promise<void> | void,
    options: StartOptions = {},
  ): Promise<Started> {
    checkId('runs.start()', id)
    if (!isFunction(producer)) {
      throw new TypeError(`runs.start(): the producer must be a function; got ${got(producer)}`)
    }
    const { onDuplicate } = resolveStart(options)
    if (this.#closing)
      throw new SseError('ERR_SSE_POOL_CLOSED', 'The runs are closed: none can be started')
    const { isOurs, run } = await this.#create(id)
    if (isOurs) {
      this.#produce(id, run, producer)
      return { ...infoOf(id, run), joined: false }
    }
    if (isRun(run) && !isThere(run)) throw expiredError(id)
    if (onDuplicate === 'reject' || !isRun(run)) {
      throw new SseError('ERR_SSE_RUN_EXISTS', `There is a run "${id}" already`, { status: 409 })
    }
    return { ...infoOf(id, run), joined: true }
  }

  /**
   * Stops a run, on whichever process its producer is: the run ends at once as `stopped`, readers are told, and
   * the producer's `run.signal` aborts. Resolves to false if there is no such run; to true also if it has ended.
   *
   * @throws SseError `ERR_SSE_LOG_DOWN` or `ERR_SSE_LOG_UNCERTAIN` if the store cannot be reached; then try again.
   */
  async stop(id: string): Promise<boolean> {
    const run = await this.#lookUp(id)
    if (run === undefined) return false
    const { generation } = run
    const ending = formatEnding({ state: 'stopped' })
    const { outcome } = await this.#options.store.append(id, { entries: [], ending, generation })
    return outcome !== 'unknown'
  }

  /**
   * What is known of a run; undefined if there is none, or it has expired.
   *
   * @throws SseError `ERR_SSE_LOG_DOWN` if the store cannot be reached.
   */
  async get(id: string): Promise<RunInfo | undefined> {
    const run = await this.#lookUp(id)
    return run !== undefined && isThere(run) ? infoOf(id, run) : undefined
  }

  /**
   * Forgets a run and its events. Its producer's signal aborts, its readers are told, and a new run of this id can be
   * started. Resolves to false if there is none.
   *
   * @throws SseError `ERR_SSE_LOG_DOWN` or `ERR_SSE_LOG_UNCERTAIN` if the store cannot be reached.
   */
  async delete(id: string): Promise<boolean> {
    if ((await this.#lookUp(id)) === undefined) return false
    return (await this.#options.store.delete(id)) !== undefined
  }

  /**
   * Reads a run on the server, to its end: as an async iterable of its events.
   *
   * @throws SseError (from the iteration) `ERR_SSE_RUN_UNKNOWN` if there is no such run, `ERR_SSE_RUN_EXPIRED` if it
   * has expired or is deleted while it is read, `ERR_SSE_LOG_DOWN` if the store cannot be reached.
   * @example
   * ```js
   * for await (const { event, data } of runs.read('job-1')) console.log(event, data)
   * ```
   */
  read(id: string, options: ReadOptions = {}): AsyncIterableIterator<RunEvent> {
    return readRun(id, options, {
      find: () => this.#recordOf(id),
      feed: run => this.#feed(id, run),
    })
  }

  /**
   * The middleware for readers: an event stream like that of `sse()`, with a run's events in place of the pool's. It
   * begins after the `Last-Event-ID`, else at the beginning, and closes when the run has ended.
   *
   * Answers 204 if there is no such run, which stops an `EventSource`, 410 if it has expired, and otherwise as
   * `sse()` does. If the store is out of reach, browsers are told to come back, and other clients get a 503 with
   * `Retry-After`; the pool emits the first such error of an outage as `error`.
   *
   * @throws TypeError that names the option, when one is unknown, missing or wrong.
   */
  stream(options: RunStreamOptions): Middleware {
    const { id: idOf, format: name, route } = resolveStream(options)
    const format = FORMATS[name]
    const find = async (ctx: Context, lastEventId: string) => {
      const id = await idOf(ctx)
      const record = await this.#find(ctx, id, format).catch(error => this.#outage(error))
      if (record === undefined || record === 'store') return record
      ctx.set(format.headers)
      const offset = format.hasIds ? lastEventId : ''
      const { pingInterval, heartbeat } = this.#hub.options
      const shown = heartbeat === 'event' ? pingInterval : undefined
      return (reader: Reader) =>
        new RunPages(this.#feed(id as string, record), reader, offset, format, shown)
    }
    return eventStreams(this.#hub, { ...route, done: format.done }, find)
  }

  /**
   * Starts nothing more, and waits until the producers of this process have finished, or for this many
   * milliseconds; what then still runs is stopped as `lost`. Closes the store. Call it before `pool.close()`.
   */
  close({ timeout = 10_000 }: { timeout?: number } = {}): Promise<void> {
    this.#closing ??= this.#close(timeout)
    return this.#closing
  }

  async #close(timeout: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const patience = new Promise(resolve => {
      timer = setTimeout(resolve, timeout)
    })
    await Promise.race([Promise.all(this.#finished.values()), patience])
    clearTimeout(timer)
    const { store } = this.#options
    const producers = [...this.#producers.values()]
    for (const producer of producers) producer.lose()
    const endings = producers.map(({ id, generation }) =>
      store.append(id, { entries: [], ending: LOST, generation }),
    )
    await Promise.allSettled(endings)
    clearInterval(this.#renewTimer)
    await store.close()
  }

  /** Begins a run, or finds the one that there is. */
  async #create(id: string): Promise<{ isOurs: boolean; run: RunRecord }> {
    const { store, ttl, remember, lease, maxLength } = this.#options
    const generation = newGeneration()
    const creation = {
      generation,
      meta: META,
      ttl,
      remember,
      maxLength,
      lease: { ms: lease, ending: LOST },
    }
    // If only the reply was lost, the run has begun, and without its producer it would be lost.
    const created = await store.create(id, creation).catch(error => {
      if (error?.code !== 'ERR_SSE_LOG_UNCERTAIN') throw error
      return store.create(id, creation)
    })
    if (!('run' in created)) throw new TypeError('The store must begin a run that is no fork')
    return { isOurs: created.run.generation === generation, run: created.run }
  }

  async #lookUp(id: string): Promise<RunRecord | undefined> {
    const record = await this.#options.store.get(id)
    return record !== undefined && isRun(record) ? record : undefined
  }

  async #find(ctx: Context, id: unknown, format: Format): Promise<RunRecord | undefined> {
    const record = isClientId(id) ? await this.#lookUp(id) : undefined
    this.#isStoreDown = false
    // The AI SDK resumes with a GET, whatever became of the newest answer. One that has ended, it shows from what
    // the app has stored; an error would stand above it.
    const resumes = format === FORMATS['ui-messages'] && ctx.method === 'GET'
    // "A client can be told to stop reconnecting using the HTTP 204 No Content response code" (WHATWG HTML).
    if (record === undefined || (resumes && record.status !== 'open')) {
      ctx.status = 204
      return undefined
    }
    if (!isThere(record)) throw expiredError(id as string)
    return record
  }

  async #recordOf(id: string): Promise<RunRecord> {
    const record = await this.#lookUp(id)
    if (record === undefined) {
      throw new SseError('ERR_SSE_RUN_UNKNOWN', `There is no run "${id}"`, { status: 404 })
    }
    if (!isThere(record)) throw expiredError(id)
    return record
  }

  /** @throws the error, unless it says that the store is out of reach. */
  #outage(error: unknown): 'store' {
    if (!(error instanceof SseError) || !OUTAGES.has(error.code)) throw error
    // Once for an outage, and not for each of its readers.
    if (!this.#isStoreDown) this.#hub.error(error)
    this.#isStoreDown = true
    return 'store'
  }

  /** To be read from at once: it closes as soon as its last reader leaves. */
  #feed(id: string, record: RunRecord): RunFeed {
    const existing = this.#feeds.get(id)
    if (existing?.generation === record.generation) {
      existing.meet(record)
      return existing
    }
    const feed = new RunFeed(id, record, {
      store: this.#options.store,
      pump: this.#hub.pump,
      error: error => this.#hub.error(error),
      idle: idle => {
        if (this.#feeds.get(id) === idle) this.#feeds.delete(id)
      },
    })
    this.#feeds.set(id, feed)
    return feed
  }

  #produce(
    id: string,
    record: RunRecord,
    produce: (run: Run<RunAppendable<Events>>) => Promise<void> | void,
  ): void {
    const { store } = this.#options
    const producer = new Producer(id, record, {
      store,
      linger: store.linger,
      lease: this.#options.lease,
      error: error => this.#hub.error(error),
    })
    this.#producers.set(id, producer)
    this.#renewTimer ??= setInterval(() => this.#renew(), this.#options.lease / 4).unref()
    const run = {
      id,
      signal: producer.signal,
      append: async (event: unknown) => producer.append(this.#encode(event)),
      flush: () => producer.flush(),
    }
    const finished = this.#work(producer, async () => produce(run)).finally(() => {
      this.#finished.delete(producer)
      if (this.#producers.get(id) === producer) this.#producers.delete(id)
      if (this.#producers.size > 0) return
      clearInterval(this.#renewTimer)
      this.#renewTimer = undefined
    })
    this.#finished.set(producer, finished)
  }

  async #work(producer: Producer, produce: () => Promise<void>): Promise<void> {
    try {
      await produce()
    } catch (error) {
      // It was stopped, and has said so in its own way.
      if (producer.isOver) return
      this.#hub.error(error)
      await producer.end({ state: 'failed', error: this.#options.onError(error, producer.id) })
      return
    }
    await producer.end({ state: 'done' })
  }

  #encode(event: unknown): string {
    if (typeof event === 'object' && event !== null) {
      const field = NOT_IN_RUNS.find(name => (event as Record<string, unknown>)[name] !== undefined)
      if (field !== undefined) {
        throw new TypeError(
          `${field} works only on events sent through the pool: a run keeps every event`,
        )
      }
    }
    const frame = encodePoolEvent(event, this.#hub.options)
    // Looking at a character makes V8 replace the tree of parts that the concatenation has left by one string. The
    // memory store keeps the frame for as long as the run, and the tree is three times as large.
    void frame.charCodeAt(0)
    return frame
  }

  #renew(): void {
    for (const producer of this.#producers.values()) void producer.renew()
  }
}

/** Errors of a store that is out of reach. To look a run up may also store its end, of which the outcome is unknown. */
const OUTAGES: ReadonlySet<string> = new Set(['ERR_SSE_LOG_DOWN', 'ERR_SSE_LOG_UNCERTAIN'])

const LOST = formatEnding({ state: 'lost' })

/** Marks a run. */
const META = 'run'

/**
 * A store may hold streams of `durableStreams()` too. Their entries are what a client has written, and as frames
 * they could pass for events of the app, or end a reader.
 */
function isRun({ meta }: RunRecord): boolean {
  return meta === META
}

function isThere({ status }: RunRecord): boolean {
  return status === 'open' || status === 'ended'
}

function expiredError(id: string): SseError {
  return new SseError('ERR_SSE_RUN_EXPIRED', `The run "${id}" has expired`, { status: 410 })
}

function checkId(call: string, id: unknown): void {
  if (isClientId(id)) return
  throw new TypeError(
    `${call}: the id must be a string of 1 to 256 characters without control characters; got ${got(id)}`,
  )
}
