import type { Target } from '../delivery/target.js'
import type { EventStream } from '../stream/stream.js'
import type { EventMap, PoolEvent } from '../wire/event.js'

/** Options of a send to many. */
export interface SendOptions {
  /** The id of a client that is left out, such as the author. */
  except?: string | number | undefined
}

/** What a client or a channel asks of its pool; one object for all of them. */
export interface Sender<Events extends object> {
  send(id: string, event: PoolEvent<Events>): Promise<string>
  remove(id: string, data?: unknown): Promise<string>
  sendToChannel(name: string, event: PoolEvent<Events>, options?: SendOptions): Promise<string>
}

/** Who is connected: an id with its open streams on this process, such as a user's tabs. */
export class Client<Events extends object = EventMap> {
  readonly id: string
  readonly #sender: Sender<Events>
  /** @internal */ readonly target: Target

  /** @internal */
  constructor(id: string, target: Target, sender: Sender<Events>) {
    this.id = id
    this.target = target
    this.#sender = sender
  }

  /** Its open streams on this process now, oldest first; never empty while it is in the pool. */
  get streams(): ReadonlySet<EventStream<Events>> {
    return new Set(this.target.members() as Iterable<unknown> as Iterable<EventStream<Events>>)
  }

  /** As `pool.send(client.id, event)`. */
  send(event: PoolEvent<Events>): Promise<string> {
    return this.#sender.send(this.id, event)
  }

  /** As `pool.remove(client.id, data)`. */
  remove(data?: unknown): Promise<string> {
    return this.#sender.remove(this.id, data)
  }
}
