import type { EventMap, PoolEvent } from '../wire/event.js'
import type { SendOptions } from './client.js'

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
