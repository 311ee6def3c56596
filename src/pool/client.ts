import type { Target } from '../delivery/target.js'
import { clientIdOf } from '../lib/names.js'
import { checkNames } from '../lib/rules.js'
import type { Client, EventStream } from '../stream/event-stream.js'
import type { Stream } from '../stream/stream.js'
import type { PoolEvent } from '../wire/event.js'

/** Options of {@link ClientPool.broadcast} and {@link Channel.send}. */
export interface SendOptions {
  /** The id of a client that does not get the event, such as its author. Default: none. */
  except?: string | number | undefined
}

/** Sends through the pool: the hub. */
export interface Sender {
  send(id: string, event: PoolEvent): Promise<string>
  remove(id: string, data?: unknown): Promise<string>
  sendToChannel(name: string, event: PoolEvent, options?: SendOptions): Promise<string>
}

/** A client that is connected to this process. */
export class ConnectedClient implements Client {
  readonly id: string
  readonly #target: Target
  readonly #sender: Sender

  /** @param target the client's, whose members are its streams. */
  constructor(id: string, target: Target, sender: Sender) {
    this.id = id
    this.#target = target
    this.#sender = sender
  }

  get streams(): ReadonlySet<EventStream> {
    const streams = this.#target.members() as Iterable<unknown> as Iterable<Stream>
    return new Set(Array.from(streams, ({ face }) => face))
  }

  send(event: PoolEvent): Promise<string> {
    return this.#sender.send(this.id, event)
  }

  remove(data?: unknown): Promise<string> {
    return this.#sender.remove(this.id, data)
  }
}

/** The client that a send leaves out. @throws TypeError for an unknown option or a wrong id. */
export function exceptOf(options: SendOptions | undefined): string | undefined {
  checkNames('send()', options, ['except'])
  return options?.except === undefined ? undefined : clientIdOf(options.except)
}
