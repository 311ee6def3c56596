import { got } from '../lib/errors.js'
import { clientIdOf } from '../lib/names.js'
import { checkNames } from '../lib/rules.js'
import type { Client, EventStream } from '../stream/event-stream.js'
import { checkOneEvent, namedEvent, type PoolEvent } from '../wire/event.js'

/** Options of {@link ClientPool.send} and {@link ClientPool.remove}. */
export interface TransactionOptions {
  /**
   * Stores the event in a transaction of your database: it is delivered after the commit, and never after
   * a rollback. It is what the pool's log takes, such as the `pg` client that has sent `BEGIN`. Default:
   * none; the event is stored at once. Of the logs here, `postgresLog` and `sqliteLog` take it; the others refuse it.
   *
   * The promise resolves when the row is written in the transaction, before the commit. It resolves to the
   * entry's id if the log knows it by then, else to `''`. Await it before the commit. If it rejects, roll
   * the transaction back: nothing is retried, and the error has no `retry`. What this process sends in the
   * meantime is not held back for it, so it may be delivered first.
   */
  transaction?: unknown
}

/** Options of {@link ClientPool.broadcast} and {@link Channel.send}. */
export interface SendOptions extends TransactionOptions {
  /**
   * The id of a client that does not get the event, such as its author, or an array of at most 100 ids.
   * Default: none.
   */
  except?: string | number | readonly (string | number)[] | undefined
}

/** Sends through the pool: the hub. */
export interface Sender {
  send(id: string, event: PoolEvent): Promise<string>
  remove(id: string, data?: unknown): Promise<string>
}

/** Knows the streams of each client: the members. */
export interface StreamsByClient {
  facesOf(id: string): Iterable<EventStream>
}

/** A client that is connected to this process, or was: the app may keep it across reconnects. */
export class ConnectedClient implements Client {
  readonly id: string
  readonly #members: StreamsByClient
  readonly #sender: Sender

  constructor(id: string, members: StreamsByClient, sender: Sender) {
    this.id = id
    this.#members = members
    this.#sender = sender
  }

  get streams(): ReadonlySet<EventStream> {
    return new Set(this.#members.facesOf(this.id))
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
 * @param known the options of this method.
 * @throws TypeError for options that are none, such as the data of `broadcast('update', data)`.
 */
export function checkSend(
  call: string,
  event: unknown,
  options: unknown,
  rest: readonly unknown[],
  known: readonly string[] = ['except', 'transaction'],
): void {
  if (options === undefined && rest.length === 0) return
  const isNameAlone = typeof event === 'string'
  const fix = isNameAlone ? `. If ${got(event)} is a name, write ${namedEvent(event)}` : ''
  const example = known.includes('except') ? "{ except: 'ada' }" : '{ transaction: client }'
  checkNames(call, options, known, example, fix)
  checkOneEvent(call, event, rest)
}

/** Each id is stored with the event, so their number must be limited like the event's size. */
const MAX_EXCEPT = 100

/** The clients that a send leaves out. @throws TypeError for a wrong id, or for too many. */
export function exceptOf(options: SendOptions | undefined): string | string[] | undefined {
  const { except } = options ?? {}
  if (typeof except === 'function') {
    throw new TypeError(
      'except must be the ids of clients, because a function cannot be sent to other processes; got a function',
    )
  }
  if (!Array.isArray(except)) return except === undefined ? undefined : clientIdOf(except)
  if (except.length > MAX_EXCEPT) {
    throw new TypeError(`except may have at most ${MAX_EXCEPT} ids; got ${except.length}`)
  }
  const ids = [...new Set(except.map(clientIdOf))]
  return ids.length > 1 ? ids : ids[0]
}
