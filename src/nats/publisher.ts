/** Publishes each entry once, and distinguishes refused entries from those that may be stored. */
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
  /** No stream stores what is published; it may have been deleted. */
  readonly onNoResponder: (error: unknown) => void
}

export class Publisher {
  readonly #options: PublisherOptions
  /** For each entry without a reply, a function that rejects it. */
  readonly #inFlight = new Set<(error: Error) => void>()
  readonly #onSettled: (() => void)[] = []
  /** Nonces of entries without a reply: publishing one again may store it twice. */
  readonly #uncertain = new Set<string>()
  /** The last sequence that the stream has assigned. */
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

  /** Resolves when every entry got its reply or was abandoned. */
  settled(): Promise<void> {
    return new Promise(resolve => {
      this.#onSettled.push(resolve)
      this.#settle()
    })
  }

  /** The connection is lost, so it is unknown which entries were stored: reject all of them. */
  abandon(error: Error): void {
    for (const giveUp of this.#inFlight) giveUp(error)
  }

  /** Whether an earlier attempt may have stored the entry. Forgets the nonce, so call it once. */
  wasUncertain(nonce: string): boolean {
    return this.#uncertain.delete(nonce)
  }

  /** Whether the sequence is higher than those before; if not, another stream assigned it. */
  isNext(sequence: number): boolean {
    const isNext = sequence > this.#last
    this.#last = sequence
    return isNext
  }

  /** Call when the stream was replaced, because the new one starts counting at 1. */
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
