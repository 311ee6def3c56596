import type { Sender } from './client.js'
import type { EventMap, PoolEvent } from './event.js'

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
   * @param options.except the id of a client that is left out, such as the author.
   * @throws TypeError that names the field, when the event is wrong.
   */
  send(event: PoolEvent<Events>, options?: { except?: string }): Promise<string> {
    return this.#sender.sendToChannel(this.name, event, options)
  }
}
