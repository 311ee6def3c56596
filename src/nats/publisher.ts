/** Publishes entries, each once, and tells those that were refused from those that may be stored. */
import type { JetStreamClient, PubAck } from '@nats-io/jetstream'
import type { Entry } from '../log/log.js'
import { forgetOldest } from '../log/shared.js'
import { encodeEntry } from './entry.js'
import { appendError, isNoResponder, uncertainError } from './errors.js'

export interface PublisherOptions {
  readonly client: JetStreamClient
  readonly stream: string
  readonly subject: string
  readonly timeout: number
  readonly maxEntries: number
  /** Nobody stores what is published; the stream may have been deleted. */
  readonly onNoResponder: (error: unknown) => void
}

export class Publisher {
  readonly #options: PublisherOptions
  /** What has no reply yet, each with how to give it up. */
  readonly #inFlight = new Set<(error: Error) => void>()
  readonly #onSettled: (() => void)[] = []
  /** Nonces of what had no reply; what is stored with them again may be the second. */
  readonly #uncertain = new Set<string>()
  /** The last sequence that was given. */
  #last = 0

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  publish(entry: Omit<Entry, 'id'>): Promise<PubAck> {
    const { client, stream, subject, timeout, onNoResponder } = this.#options
    const { nonce } = entry
    return new Promise((resolve, reject) => {
      const giveUp = (error: Error) => {
        this.#settle(giveUp)
        this.#markUncertain(nonce)
        reject(uncertainError(error))
      }
      this.#inFlight.add(giveUp)
      const options = { msgID: nonce, timeout, expect: { streamName: stream } }
      client.publish(subject, encodeEntry(entry), options).then(
        ack => {
          this.#settle(giveUp)
          resolve(ack)
        },
        error => {
          if (!this.#settle(giveUp)) return
          const failure = appendError(error)
          if (failure.code === 'ERR_SSE_LOG_UNCERTAIN') this.#markUncertain(nonce)
          reject(failure)
          if (isNoResponder(error)) onNoResponder(error)
        },
      )
    })
  }

  /** Resolves when everything had its reply, or has been given up. */
  settled(): Promise<void> {
    return new Promise(resolve => {
      this.#onSettled.push(resolve)
      this.#settle()
    })
  }

  /** The connection is lost: nobody can tell what of it had arrived. */
  abandon(error: Error): void {
    for (const giveUp of this.#inFlight) giveUp(error)
  }

  /** Whether an earlier attempt may have stored it; asked once. */
  wasUncertain(nonce: string): boolean {
    return this.#uncertain.delete(nonce)
  }

  /** Whether a sequence follows those before, as it must unless another stream took their place. */
  isNext(sequence: number): boolean {
    const isNext = sequence > this.#last
    this.#last = sequence
    return isNext
  }

  /** The stream is another one, and counts anew. */
  forget(): void {
    this.#last = 0
  }

  #settle(giveUp?: (error: Error) => void): boolean {
    const wasInFlight = giveUp !== undefined && this.#inFlight.delete(giveUp)
    if (this.#inFlight.size === 0) for (const resolve of this.#onSettled.splice(0)) resolve()
    return wasInFlight
  }

  #markUncertain(nonce: string): void {
    this.#uncertain.add(nonce)
    forgetOldest(this.#uncertain, this.#options.maxEntries)
  }
}
