import type { Target } from '../delivery/target.js'
import { got } from '../lib/errors.js'
import { clientIdOf } from '../lib/names.js'
import { checkNames } from '../lib/rules.js'
import type { Client, EventStream } from '../stream/event-stream.js'
import type { Stream } from '../stream/stream.js'
import { checkOneEvent, namedEvent, type PoolEvent } from '../wire/event.js'

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

  send(event: PoolEvent, ...rest: unknown[]): Promise<string> {
    checkOneEvent('send()', event, rest)
    return this.#sender.send(this.id, event)
  }

  remove(data?: unknown): Promise<string> {
    return this.#sender.remove(this.id, data)
  }
}

/**
 * @param call the method that was called, such as `broadcast()`.
 * @throws TypeError for options that are none, such as the data of `broadcast('update', data)`.
 */
export function checkSend(
  call: string,
  event: unknown,
  options: unknown,
  rest: readonly unknown[],
): void {
  if (options === undefined && rest.length === 0) return
  const isNameAlone = typeof event === 'string'
  const fix = isNameAlone ? `. If ${got(event)} is a name, write ${namedEvent(event)}` : ''
  checkNames(call, options, ['except'], "{ except: 'ada' }", fix)
  checkOneEvent(call, event, rest)
}

/** The client that a send leaves out. @throws TypeError for a wrong id. */
export function exceptOf(options: SendOptions | undefined): string | undefined {
  return options?.except === undefined ? undefined : clientIdOf(options.except)
}
