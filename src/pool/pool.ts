/** `ClientPool`: what an app calls. The parts behind it are wired in hub.ts. */
import { EventEmitter } from 'node:events'
import { inspect } from 'node:util'
import { got, SseError } from '../lib/errors.js'
import { channelName, checkChannels, clientIdOf } from '../lib/names.js'
import { checkNames } from '../lib/rules.js'
import type { Client, EventStream } from '../stream/event-stream.js'
import { checkOneEvent, type EventMap, type PoolEvent } from '../wire/event.js'
import type { Channel, Channels } from './channel.js'
import { checkClaim } from './claims.js'
import { checkSend, type SendOptions, type TransactionOptions } from './client.js'
import { checkEventName, type PoolEventMap } from './emitter.js'
import { attachHub, Hub } from './hub.js'
import { type PoolOptions, resolvePoolOptions } from './options.js'
import type { Location, PoolCount } from './processes.js'
import type { PoolStats } from './stats.js'
import {
  checkEvents,
  type EventsOptions,
  type EventTargets,
  iterate,
  type PoolEntry,
} from './subscription.js'

/**
 * The clients that are connected to this process, and how to push to a client, to a channel or to
 * everyone on all processes. It reads like a `Map` from client ids to clients.
 *
 * It is a Node [`EventEmitter`](https://nodejs.org/api/events.html#class-eventemitter) with the events
 * `open`, `start`, `close`, `gap` and `error`; see {@link PoolEventMap} for their arguments. An `error` without a
 * listener becomes a process warning, once for each pool, and never ends the process. The same events are
 * published on Node's [`diagnostics_channel`](https://nodejs.org/api/diagnostics_channel.html) as
 * `koa-sse-pool:open` and so on.
 *
 * @typeParam Events the names of the events and the types of their data, checked wherever one is sent.
 * @example
 * ```ts
 * const pool = new ClientPool<{ update: { count: number } }>({ maxClients: 1000 })
 * router.get('/event/push', sse({ pool, id: ctx => ctx.query.id }))
 * await pool.send('ada', { event: 'update', data: { count: 42 } })
 * ```
 */
export class ClientPool<Events extends object = EventMap>
  extends EventEmitter
  implements AsyncDisposable
{
  readonly #hub: Hub

  /** @throws TypeError that names the option, when one is unknown or wrong. */
  constructor(options: PoolOptions<Events> = {}) {
    super()
    this.#hub = new Hub(resolvePoolOptions(options), this)
    attachHub(this, this.#hub)
  }

  /** The number of clients that are connected to this process. */
  get size(): number {
    return this.#clients.size
  }

  /** The number of open streams on this process; a client with two tabs has two. */
  get connections(): number {
    return this.#hub.members.size
  }

  /** Whether the client is connected to this process. */
  has(id: string | number): boolean {
    return this.#clients.has(String(id))
  }

  /** The client, if it is connected to this process. */
  get(id: string | number): Client<Events> | undefined {
    return this.#clients.get(String(id))
  }

  /** The ids of the clients, in the order in which they connected. */
  keys(): IterableIterator<string> {
    return this.#clients.keys()
  }

  /** The clients, in the order in which they connected. */
  values(): IterableIterator<Client<Events>> {
    return this.#clients.values()
  }

  /** Ids and clients, in the order in which they connected. */
  entries(): IterableIterator<[string, Client<Events>]> {
    return this.#clients.entries()
  }

  /** The same as {@link entries}. */
  [Symbol.iterator](): IterableIterator<[string, Client<Events>]> {
    return this.#clients.entries()
  }

  /** Calls a function for each client. */
  forEach(callback: (client: Client<Events>, id: string, pool: this) => void): void {
    for (const [id, client] of this.#clients) callback(client, id, this)
  }

  /**
   * Sends an event to all streams of a client, on all processes. Resolves to the entry's id once the log
   * has stored it and this process has read it back, so that whatever this process sends next arrives
   * after it. It resolves whether or not the client is connected: a client that resumes gets what it
   * missed.
   *
   * Rejects with an {@link SseError}: `ERR_SSE_LOG_DOWN` when the log did not store it,
   * `ERR_SSE_LOG_UNCERTAIN` when that cannot be known, `ERR_SSE_POOL_CLOSED` when the pool is closed.
   * The pool also emits the rejection as `error`; it does not end the process if it is not awaited.
   *
   * @throws TypeError synchronously, when the id or the event is wrong; the message names the field.
   * @throws SseError synchronously, `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * @example
   * await pool.send('ada', { event: 'progress', data: { done: 0.5 }, key: 'job 7' })
   */
  send<Name extends keyof Events & string>(
    id: string | number,
    event: PoolEvent<Events> | PoolEvent<Events, Name>,
    options?: TransactionOptions,
  ): Promise<string>
  send(id: string | number, event: unknown, ...rest: unknown[]): Promise<string> {
    const [options, ...more] = rest
    // After a name alone, as in Socket.IO, the next argument is data: the error must not speak of options.
    if (typeof event === 'string' && !isOptions(options)) checkOneEvent('send()', event, rest)
    checkSend('send()', event, options, more, ['transaction'])
    return this.#hub.send(id, event as PoolEvent, options as TransactionOptions | undefined)
  }

  /**
   * Sends an event to every stream on every process. Resolves and rejects like {@link send}.
   *
   * @throws TypeError and SseError like {@link send}, and a TypeError for an unknown or wrong option.
   * @example
   * await pool.broadcast({ event: 'news', data: 'Back in a minute' }, { except: ['ada', 'bob'] })
   */
  broadcast<Name extends keyof Events & string>(
    event: PoolEvent<Events> | PoolEvent<Events, Name>,
    options?: SendOptions,
  ): Promise<string>
  broadcast(event: unknown, options?: SendOptions, ...rest: unknown[]): Promise<string> {
    checkSend('broadcast()', event, options, rest)
    return this.#hub.broadcast(event as PoolEvent, options)
  }

  /**
   * A channel by name, to send to every stream that has joined it.
   *
   * @throws TypeError for a name that is not a string of 1 to 256 characters, has control or invisible
   * characters or begins with `sse.`.
   * @example
   * await pool.channel('orders').send({ event: 'order', data: order })
   */
  channel(name: string): Channel<Events> {
    const hub = this.#hub
    return {
      name: channelName(name),
      get size() {
        return hub.members.sizeOfChannel(name)
      },
      send: (event: unknown, options?: SendOptions, ...rest: unknown[]) => {
        checkSend('channel.send()', event, options, rest)
        return hub.sendToChannels([name], event as PoolEvent, options)
      },
      count: () => hub.processes.count({ channel: name }),
      add: id => hub.changeMembership('add', name, id),
      remove: id => hub.changeMembership('remove', name, id),
      removeAll: data => hub.removeMembers(name, data),
    }
  }

  /**
   * Several channels by name, to send one event to all of them. A stream that has joined more than one gets
   * it once.
   *
   * Processes that run a version without this method send it to the first channel only: deploy all of them
   * first.
   *
   * @throws TypeError for a wrong name, for no name and for more than 100.
   * @example
   * await pool.channels('room:7', 'moderators').send({ event: 'report', data: report })
   */
  channels(...names: string[]): Channels<Events> {
    if (names.length === 0) throw new TypeError('channels() needs the name of a channel; got none')
    checkChannels(names, 'An event may go to')
    const hub = this.#hub
    const unique = [...new Set(names)]
    return {
      names: unique,
      send: (event: unknown, options?: SendOptions, ...rest: unknown[]) => {
        checkSend('channels.send()', event, options, rest)
        return hub.sendToChannels(unique, event as PoolEvent, options)
      },
    }
  }

  /**
   * Ends all streams of a client, on all processes, with the close event, so that its pages do not
   * reconnect. It goes through the log: a page that is just reconnecting finds it in its replay and is
   * ended too. The same id may connect again without a cursor. Resolves and rejects like {@link send}.
   *
   * @param data the data of the close event; empty by default.
   * @throws TypeError when the id or an option is wrong, or the data cannot be serialized.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   */
  remove(id: string | number, data?: unknown, options?: TransactionOptions): Promise<string> {
    checkNames('remove()', options, ['transaction'], '{ transaction: client }')
    return this.#hub.remove(id, data, options)
  }

  /**
   * Ends the streams of this process for which a function returns true, with the close event, as `removed`.
   * Returns their number. A function cannot be sent to other processes: to end streams on all of them, let
   * the streams join a channel by the route's `channels` or `identify`, and call {@link Channel.removeAll}.
   * Long polls have no stream, and are authorized again with each poll.
   *
   * @param isChosen is called for each stream; if it throws, no stream is ended.
   * @param data the data of the close event; empty by default.
   * @throws TypeError when the function returns something else than a boolean, such as a promise, and when
   * the data cannot be serialized.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * @example
   * pool.removeWhere(stream => stream.state.role === 'guest')
   */
  removeWhere(isChosen: (stream: EventStream<Events>) => boolean, data?: unknown): number {
    return this.#hub.removeWhere(isChosen as (stream: EventStream) => unknown, data)
  }

  /**
   * Finds the processes on which a client is connected. It asks all processes through the log, where the
   * question and each answer are an entry: use it for dashboards, not for each request. A process that
   * has died without a goodbye delays the next question by a second. Rejects like {@link send}.
   *
   * @throws TypeError when the id is wrong.
   * @example
   * const places = await pool.locate('ada') // [{ process: 'web-1:4711', streams: 2 }]
   */
  locate(id: string | number): Promise<Location[]> {
    return this.#hub.processes.locate(clientIdOf(id))
  }

  /** How many clients and streams are connected to all processes. Asks and rejects like {@link locate}. */
  count(): Promise<PoolCount> {
    return this.#hub.processes.count()
  }

  /**
   * Claims a name for `ttl` milliseconds: resolves to `true` for the first caller among all processes
   * that share the log, and to `false` for all others until that time is over. For what must happen only
   * once, such as redeeming a ticket, or a job that every process would start.
   *
   * A claim is an entry in the log. A process that starts learns from the log which names are claimed, as
   * far as it still holds their entries; with the memory log it knows of no claim before its start.
   *
   * Rejects like {@link send}, and with `ERR_SSE_LOG_UNCERTAIN` when the log does not return the claim
   * within 5 seconds, or when more than 100 000 names are claimed. Then it may be that no caller has the
   * name until the time is over, but never two.
   *
   * @param name 1 to 256 characters.
   * @param options `ttl`: a whole number of milliseconds, from 1 to 2 147 483 647 (about 24 days).
   * @throws TypeError for a wrong name or option.
   * @example
   * if (await pool.claim('nightly report', { ttl: 3_600_000 })) await makeReport()
   */
  claim(name: string, options: { ttl: number }): Promise<boolean> {
    checkNames('claim()', options, ['ttl'], '{ ttl: 60_000 }')
    checkClaim(name, options?.ttl)
    const claimed = this.#hub.isClosed
      ? Promise.reject(
          new SseError('ERR_SSE_POOL_CLOSED', 'The pool is closed: nothing is claimed'),
        )
      : this.#hub.claims.claim(name, options.ttl)
    claimed.catch(error => this.#hub.error(error))
    return claimed
  }

  /** Whether a load balancer should send streams here: the log is in reach and the pool not closing. */
  get isReady(): boolean {
    return this.#hub.isReady
  }

  /** The figures of this process. Visits every stream, so call it every few seconds at most. */
  stats(): PoolStats {
    return this.#hub.stats()
  }

  /**
   * Drains the pool: refuses new streams, ends the open ones evenly within `spread` milliseconds, each
   * with a random reconnect delay of 1 to 5 seconds, and closes the log. Before that it waits until what
   * the streams were sent is written, for at most 5 seconds, or `stallTimeout` if that is shorter; then it
   * destroys the connections that are left. Call it before `server.close()`, which waits for open streams.
   * A second call returns the first one's promise.
   *
   * @param options `spread`: milliseconds, 0 or more. Default 0.
   * @throws TypeError for a wrong option, and when `spread` is not a number of at least 0.
   * @example
   * process.once('SIGTERM', async () => {
   *   await pool.close({ spread: 5000 })
   *   server.close()
   * })
   */
  close(options: { spread?: number | undefined } = {}): Promise<void> {
    const example = typeof options === 'number' ? options : 5000
    checkNames('close()', options, ['spread'], `{ spread: ${example} }`)
    const { spread = 0 } = options
    if (!Number.isFinite(spread) || spread < 0) {
      throw new TypeError(`close(): spread must be milliseconds of at least 0; got ${got(spread)}`)
    }
    return this.#hub.close(spread)
  }

  /** The same as {@link close} without options, for `await using pool = new ClientPool()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /**
   * The entries for a client, for channels and for everyone as an async iterable: for a bridge to a
   * WebSocket, or a job that follows a channel. It has a cursor of its own, so slow reading costs no
   * memory. If it has missed something, it yields an `sse.gap` entry.
   *
   * Ends when the client is removed, when the pool closes and when `signal` aborts.
   *
   * @param targets which entries to read. Default: broadcasts only.
   * @param options where to begin, and when to end.
   * @throws TypeError for a wrong id, name or option.
   * @example
   * for await (const { id, event, data } of pool.events({ channels: ['orders'] }, { since })) {
   *   socket.send(JSON.stringify({ id, event, data }))
   * }
   */
  events(targets: EventTargets = {}, options: EventsOptions = {}): AsyncGenerator<PoolEntry> {
    const { since, replay, signal } = checkEvents(targets, options)
    return iterate(this.#hub.subscribe(targets, since, replay), signal)
  }

  /**
   * Adds a listener for one of the pool's events:
   *
   * - `open` (stream): a stream has joined the pool; its handler runs next, and may still refuse it
   * - `close` (stream, reason): a stream has left the pool, once for each `open`
   * - `gap` (stream, reason): a stream has missed something
   * - `error` (error): the log, a listener or `authorize` failed, or a send or a claim did
   *
   * An `error` without a listener becomes a process warning, once for each pool. A listener that throws,
   * or returns a promise that rejects, becomes an `error` and stops no other listener.
   *
   * @throws TypeError for an event that does not exist.
   * @example
   * pool.on('close', (stream, reason) => console.log(stream.id, reason))
   */
  override on<Name extends keyof PoolEventMap>(
    event: Name,
    listener: (...args: PoolEventMap<Events>[Name]) => void,
  ): this {
    checkEventName(event)
    return super.on(event, listener)
  }

  /** The same as {@link on}. */
  override addListener<Name extends keyof PoolEventMap>(
    event: Name,
    listener: (...args: PoolEventMap<Events>[Name]) => void,
  ): this {
    return this.on(event, listener)
  }

  /** Adds a listener before the existing ones; see {@link on}. @throws TypeError like {@link on}. */
  override prependListener<Name extends keyof PoolEventMap>(
    event: Name,
    listener: (...args: PoolEventMap<Events>[Name]) => void,
  ): this {
    checkEventName(event)
    return super.prependListener(event, listener)
  }

  /** Adds a listener for the next event only; see {@link on}. @throws TypeError like {@link on}. */
  override once<Name extends keyof PoolEventMap>(
    event: Name,
    listener: (...args: PoolEventMap<Events>[Name]) => void,
  ): this {
    checkEventName(event)
    return super.once(event, listener)
  }

  /** Removes a listener that was added by {@link on} or {@link once}. */
  override off<Name extends keyof PoolEventMap>(
    event: Name,
    listener: (...args: PoolEventMap<Events>[Name]) => void,
  ): this {
    return super.off(event, listener)
  }

  /** What a logger shows, without the clients and the log behind the pool. */
  toJSON(): object {
    return { clients: this.size, streams: this.connections, isReady: this.isReady }
  }

  /** What `console.log` shows: the same as {@link toJSON}. */
  [inspect.custom](_depth: number, options: object): string {
    return `ClientPool ${inspect(this.toJSON(), options)}`
  }

  get #clients(): Map<string, Client<Events>> {
    return this.#hub.members.clients as Map<string, unknown> as Map<string, Client<Events>>
  }
}

/** Whether this is options, and not the data of `send(id, 'update', data)`. */
function isOptions(value: unknown): boolean {
  return value === undefined || (typeof value === 'object' && 'transaction' in Object(value))
}
