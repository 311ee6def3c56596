import type { EventMap, PoolEvent } from '../wire/event.js'
import type { SendOptions } from './client.js'

/**
 * A named group of streams, on whatever process they are. A channel needs no creating and no closing:
 * streams join it by the route's option `channels` or by `ctx.sse.join()`.
 */
export interface Channel<Events extends object = EventMap> {
  readonly name: string
  /** Streams on this process that have joined it now. */
  readonly size: number

  /**
   * Sends an event to all streams that have joined the channel. Resolves and rejects as
   * {@link ClientPool.send}.
   *
   * @throws TypeError that names the field when the event or an option is wrong.
   * @example
   * await pool.channel('news').send({ event: 'headline', data: { title } }, { except: author })
   */
  send(event: PoolEvent<Events>, options?: SendOptions): Promise<string>
}
