import type { EventMap, PoolEvent } from '../wire/event.js'
import type { Sender, SendOptions } from './client.js'

/** A named group of streams, on whatever process they are. It needs no creating and no closing. */
export class Channel<Events extends object = EventMap> {
  readonly name: string
  readonly #sender: Sender<Events>

  /** @internal */
  constructor(name: string, sender: Sender<Events>) {
    this.name = name
    this.#sender = sender
  }

  /**
   * Sends an event to all who have joined the channel; resolves to the entry's id.
   * @throws TypeError that names the field, when the event is wrong.
   */
  send(event: PoolEvent<Events>, options?: SendOptions): Promise<string> {
    return this.#sender.sendToChannel(this.name, event, options)
  }
}
