import type { EventMap, PoolEvent } from '../wire/event.js'
import type { SendOptions } from './client.js'
import type { PoolCount } from './processes.js'

/** Several channels, to send one event to all of them; see {@link ClientPool.channels}. */
export interface Channels<Events extends object = EventMap> {
  /** The names that were passed to {@link ClientPool.channels}, each once. */
  readonly names: readonly string[]

  /**
   * Sends one event to all streams that have joined at least one of the channels, on all processes. A
   * stream that has joined several gets it once. Resolves and rejects like {@link ClientPool.send}.
   *
   * @throws TypeError that names the field when the event or an option is wrong.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   */
  send<Name extends keyof Events & string>(
    event: PoolEvent<Events> | PoolEvent<Events, Name>,
    options?: SendOptions,
  ): Promise<string>
}

/**
 * A named group of streams on all processes. A channel is neither created nor closed: streams join it by
 * the route's option `channels` or by `ctx.sse.join()`.
 */
export interface Channel<Events extends object = EventMap> {
  /** The name that was passed to {@link ClientPool.channel}. */
  readonly name: string
  /** How many streams of this process are in the channel now. */
  readonly size: number

  /**
   * Sends an event to all streams that have joined the channel, on all processes. Resolves and rejects
   * like {@link ClientPool.send}.
   *
   * @throws TypeError that names the field when the event or an option is wrong.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * @example
   * await pool.channel('news').send({ event: 'headline', data: { title } }, { except: author })
   */
  send<Name extends keyof Events & string>(
    event: PoolEvent<Events> | PoolEvent<Events, Name>,
    options?: SendOptions,
  ): Promise<string>

  /**
   * How many clients and streams are in the channel on all processes; long polls are not counted. It asks through
   * the log, like {@link ClientPool.count}, and rejects like {@link ClientPool.send}. Processes that run a version
   * without this method answer with all of their streams: deploy all of them first.
   *
   * @example
   * const { clients } = await pool.channel('room:7').count()
   */
  count(): Promise<PoolCount>

  /**
   * Adds the client's open streams to the channel, on all processes, as `ctx.sse.join()` does for one
   * stream: they get what is sent to the channel from then on. When the client reconnects, the route's
   * `channels` or `identify` decides again. Long polls name their channels with each request and are not
   * added. Resolves and rejects like {@link ClientPool.send}; if the client is not connected, nothing happens.
   *
   * Processes that run a version without this method ignore it: deploy all of them first.
   *
   * @throws TypeError when the id is wrong.
   * @example
   * await pool.channel(`room:${room}`).add(ctx.state.user.id)
   */
  add(id: string | number): Promise<string>

  /**
   * Takes the client's open streams and waiting long polls out of the channel, on all processes; they stay
   * open. The client still gets what was sent to the channel before, and nothing that is sent later. When
   * it reconnects, the route's `channels` or `identify` decides again: change the client's rights first.
   * Resolves and rejects like {@link ClientPool.send}; if the client is not connected, nothing happens.
   *
   * Processes that run a version without this method ignore it: deploy all of them first.
   *
   * @throws TypeError when the id is wrong.
   * @example
   * await rooms.removeMember(room, id)
   * await pool.channel(`room:${room}`).remove(id)
   */
  remove(id: string | number): Promise<string>

  /**
   * Ends all streams that are in the channel, on all processes, with the close event, so that their pages
   * do not reconnect; other streams of the same clients stay open. Like {@link ClientPool.remove}, it goes
   * through the log: a page that is just reconnecting to the channel is ended too. It also ends long polls
   * and `pool.events()` of clients in the channel. The channel itself can be joined again. Resolves and
   * rejects like {@link ClientPool.send}.
   *
   * Processes that run a version without this method ignore it: deploy all of them first.
   *
   * @param data the data of the close event; empty by default.
   * @throws TypeError when the data cannot be serialized.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * @example
   * sse({ pool, identify: async ctx => ({ id: ctx.state.user.id, channels: [`session:${ctx.state.session.id}`] }) })
   * await pool.channel(`session:${id}`).removeAll() // when the session is revoked
   */
  removeAll(data?: unknown): Promise<string>
}
