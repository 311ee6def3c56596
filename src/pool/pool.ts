/** `ClientPool`: what an app calls. The parts behind it are put together in hub.ts. */
import { EventEmitter } from 'node:events'
import { inspect } from 'node:util'
import { got, SseError } from '../lib/errors.js'
import { channelName, clientIdOf } from '../lib/names.js'
import { checkNames } from '../lib/rules.js'
import type { Client } from '../stream/event-stream.js'
import type { EventMap, PoolEvent } from '../wire/event.js'
import type { Channel } from './channel.js'
import { checkClaim } from './claims.js'
import type { SendOptions } from './client.js'
import { checkEventName, type PoolEventMap } from './emitter.js'
import { attachHub, Hub } from './hub.js'
import { type PoolOptions, resolvePoolOptions } from './options.js'
import type { Location, PoolCount } from './presence.js'
import type { PoolStats } from './stats.js'
import {
  checkEvents,
  type EventsOptions,
  type EventTargets,
  iterate,
  type PoolEntry,
} from './subscription.js'

/**
 * All clients that are connected to this process, and how to push to one of them, to a channel or to
 * everyone, on whatever process they are. It reads like a `Map` from client ids to clients.
 *
 * It is an `EventEmitter` of Node's with the events `open`, `close`, `gap` and `error`; see
 * {@link PoolEventMap} for their arguments. An `error` without a listener is a process warning, once for
 * each pool, and never ends the process. The same events are published on Node's `diagnostics_channel`
 * as `koa-sse-pool:open` and so on.
 *
 * @typeParam Events names and payloads of the events, checked wherever one is sent.
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

  /** As {@link entries}. */
  [Symbol.iterator](): IterableIterator<[string, Client<Events>]> {
    return this.#clients.entries()
  }

  /** Calls a function for each client. */
  forEach(callback: (client: Client<Events>, id: string, pool: this) => void): void {
    for (const [id, client] of this.#clients) callback(client, id, this)
  }

  /**
   * Sends an event to all streams of a client, on whatever process they are. Resolves to the entry's id
   * once the log has stored it and this process has read it back, so that whatever this process does
   * next comes after it. It resolves whether or not the client is connected: a client that resumes gets
   * what it missed.
   *
   * Rejects with an {@link SseError}: `ERR_SSE_LOG_DOWN` when the log did not store it,
   * `ERR_SSE_LOG_UNCERTAIN` when that cannot be known, `ERR_SSE_POOL_CLOSED` when the pool is closed.
   * The rejection is also the pool's `error` event, and does not end the process if nobody awaits it.
   *
   * @throws TypeError at once, when the id or the event is wrong; the message names the field.
   * @throws SseError at once, `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * @example
   * await pool.send('ada', { event: 'progress', data: { done: 0.5 }, key: 'job 7' })
   */
  send(id: string | number, event: PoolEvent<Events>): Promise<string> {
    return this.#hub.send(id, event as PoolEvent)
  }

  /**
   * Sends an event to every stream on every process. Resolves and rejects as {@link send}.
   *
   * @throws TypeError and SseError as {@link send} does, and a TypeError for an unknown option.
   * @example
   * await pool.broadcast({ event: 'news', data: 'Back in a minute' }, { except: 'ada' })
   */
  broadcast(event: PoolEvent<Events>, options?: SendOptions): Promise<string> {
    return this.#hub.broadcast(event as PoolEvent, options)
  }

  /**
   * A channel by name, to send to every stream that has joined it.
   *
   * @throws TypeError for an empty name, or one with control or invisible characters.
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
      send: (event, options) => hub.sendToChannel(name, event as PoolEvent, options),
    }
  }

  /**
   * Ends all streams of a client with the close event, so that its pages stay away. It goes through the
   * log: a page that is just reconnecting meets it in its replay and is ended too, while the same id may
   * connect again without a cursor. Resolves and rejects as {@link send}.
   *
   * @param data the data of the close event; empty by default.
   * @throws TypeError when the id is wrong or the data cannot be serialized.
   */
  remove(id: string | number, data?: unknown): Promise<string> {
    return this.#hub.remove(id, data)
  }

  /**
   * On which processes a client is connected. Asks all processes through the log, so it is for
   * dashboards and not for each request: a question is an entry, and so is each answer. A process that
   * has died without a word costs the next question a second. Rejects as {@link send}.
   *
   * @throws TypeError for what cannot be an id.
   */
  locate(id: string | number): Promise<Location[]> {
    return this.#hub.presence.locate(clientIdOf(id))
  }

  /** How many clients and streams are connected to all processes; asks as {@link locate} does. */
  count(): Promise<PoolCount> {
    return this.#hub.presence.count()
  }

  /**
   * Claims a name for `ttl` milliseconds: resolves to `true` for the caller that was first among all
   * processes that share the log, and to `false` for all others until that time is over. For what must
   * happen once, such as redeeming a ticket, or a job that every process would start.
   *
   * A claim is an entry in the log. A process that starts learns what is claimed from what the log still
   * holds; with the memory log it knows of nothing before its start.
   *
   * Rejects as {@link send}, and with `ERR_SSE_LOG_UNCERTAIN` when the claim does not come back by the
   * log within 5 seconds: then perhaps nobody has the name until the time is over, but never two.
   *
   * @throws TypeError for a wrong name or `ttl`.
   * @example
   * if (await pool.claim('nightly report', { ttl: 3_600_000 })) await makeReport()
   */
  claim(name: string, options: { ttl: number }): Promise<boolean> {
    checkNames('claim()', options, ['ttl'])
    checkClaim(name, options?.ttl)
    const claimed = this.#hub.isClosed
      ? Promise.reject(
          new SseError('ERR_SSE_POOL_CLOSED', 'The pool is closed: nothing is claimed'),
        )
      : this.#hub.claims.claim(name, options.ttl)
    claimed.catch(error => this.#hub.error(error))
    return claimed
  }

  /** Whether a load balancer should send streams here: the log is in reach, and nothing is closing. */
  get isReady(): boolean {
    return this.#hub.isReady
  }

  /** The figures of this process. Looks at every stream, so it is for every few seconds. */
  stats(): PoolStats {
    return this.#hub.stats()
  }

  /**
   * Drains: new streams are refused, open ones are ended within `spread` milliseconds (default 0), each
   * told to come back after a random time, then the log is closed. Call it before `server.close()`,
   * which waits for open streams. A second call returns the first one's promise.
   *
   * @throws TypeError for an unknown option, and when `spread` is not a number of at least 0.
   * @example
   * process.once('SIGTERM', async () => {
   *   await pool.close({ spread: 5000 })
   *   server.close()
   * })
   */
  close(options: { spread?: number } = {}): Promise<void> {
    checkNames('close()', options, ['spread'])
    const { spread = 0 } = options
    if (!Number.isFinite(spread) || spread < 0) {
      throw new TypeError(`close(): spread must be milliseconds of at least 0; got ${got(spread)}`)
    }
    return this.#hub.close(spread)
  }

  /** As {@link close} without options, for `await using pool = new ClientPool()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /**
   * The entries for a client and for channels, and broadcasts, as an async iterable: to bridge them to a
   * WebSocket, or for a job that follows a channel. It has a cursor of its own, so a slow reader costs
   * no memory, and gets an `sse.gap` entry when it has missed something.
   *
   * Ends when the client is removed, when the pool closes and when `signal` aborts.
   *
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
   * - `error` (error): the log, a listener or `authorize` failed, or a send was not stored
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

  /** As {@link on}, before the listeners that there are. */
  override prependListener<Name extends keyof PoolEventMap>(
    event: Name,
    listener: (...args: PoolEventMap<Events>[Name]) => void,
  ): this {
    checkEventName(event)
    return super.prependListener(event, listener)
  }

  /** As {@link on}, for the next event only. */
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

  /** What a logger shows; the clients and the log behind it are left out. */
  toJSON(): object {
    return { clients: this.size, streams: this.connections, isReady: this.isReady }
  }

  [inspect.custom](_depth: number, options: object): string {
    return `ClientPool ${inspect(this.toJSON(), options)}`
  }

  get #clients(): Map<string, Client<Events>> {
    return this.#hub.members.clients as Map<string, unknown> as Map<string, Client<Events>>
  }
}
