/**
 * Emits the pool's events, to its listeners and on Node's `diagnostics_channel`. A listener that throws
 * stops neither the other listeners nor the pool.
 */
import { channel } from 'node:diagnostics_channel'
import type { EventEmitter } from 'node:events'
import { didYouMean } from '../lib/errors.js'
import type { CloseReason, GapReason } from '../lib/reasons.js'
import type { EventStream } from '../stream/event-stream.js'
import type { EventMap } from '../wire/event.js'

/** The events of a pool, and the arguments of each event's listeners. */
export interface PoolEventMap<Events extends object = EventMap> {
  /** A stream has joined the pool. Its handler runs next, and may still refuse it; see `start`. */
  open: [stream: EventStream<Events>]
  /** The response of a stream has opened: the handler has not refused it, and its client is connected. */
  start: [stream: EventStream<Events>]
  /** A stream has left the pool, whatever the cause: once for each `open`. */
  close: [stream: EventStream<Events>, reason: CloseReason]
  /** A stream has missed something. Its client gets an `sse.gap` event, unless `resume` is `false`. */
  gap: [stream: EventStream<Events>, reason: GapReason]
  /** The log, a listener or `authorize` failed, or a send or a claim did. */
  error: [error: Error]
}

/** Each event's channel, and the names that its arguments have in the message published there. */
const DIAGNOSTICS = {
  open: { channel: channel('koa-sse-pool:open'), fields: ['stream'] },
  start: { channel: channel('koa-sse-pool:start'), fields: ['stream'] },
  close: { channel: channel('koa-sse-pool:close'), fields: ['stream', 'reason'] },
  gap: { channel: channel('koa-sse-pool:gap'), fields: ['stream', 'reason'] },
  error: { channel: channel('koa-sse-pool:error'), fields: ['error'] },
}

/**
 * Without this check a listener for a misspelt event would wait for ever.
 *
 * @throws TypeError for a name that is neither an event of a pool nor one of Node's own.
 */
export function checkEventName(name: string | symbol): void {
  if (typeof name === 'symbol' || Object.hasOwn(DIAGNOSTICS, name)) return
  if (name === 'newListener' || name === 'removeListener') return
  throw new TypeError(
    `A ClientPool has no event "${name}"${didYouMean(name, Object.keys(DIAGNOSTICS))}`,
  )
}

export class SafeEmitter {
  readonly #emitter: EventEmitter
  #hasWarned = false

  /** @param emitter that the app's listeners are added to: the pool. */
  constructor(emitter: EventEmitter) {
    this.#emitter = emitter
  }

  emit<Name extends keyof PoolEventMap>(event: Name, ...args: PoolEventMap[Name]): void {
    const { channel, fields } = DIAGNOSTICS[event]
    if (channel.hasSubscribers) {
      channel.publish(Object.fromEntries(fields.map((field, i) => [field, args[i]])))
    }
    // One by one and not by `emit`, which would skip the listeners after one that throws.
    for (const listener of this.#emitter.rawListeners(event)) {
      const failed = (error: unknown) => {
        if (event === 'error') process.emitWarning(asError(error))
        else this.error(error)
      }
      try {
        const result: unknown = listener.apply(this.#emitter, args)
        if (result instanceof Promise) result.catch(failed)
      } catch (error) {
        failed(error)
      }
    }
  }

  /** An error without a listener must neither end the process nor go unseen: it warns, once. */
  error(cause: unknown): void {
    const error = asError(cause)
    const hasListener = this.#emitter.listenerCount('error') > 0
    this.emit('error', error)
    if (this.#hasWarned || hasListener) return
    this.#hasWarned = true
    process.emitWarning(
      `ClientPool error (add pool.on('error', …) to handle it): ${error.stack ?? error.message}`,
    )
  }
}

function asError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error(String(cause), { cause })
}
