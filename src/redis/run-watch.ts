/**
 * The watchers of runs, on a connection of their own: one subscription for each run that is watched, from its
 * first watcher to its last.
 *
 * Redis keeps no messages, so whatever was published without a subscription is missed. A watcher is therefore
 * called without news as soon as its subscription stands, and again after each reconnection.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { ManagedConnection } from '../log/connection.js'
import type { RunNews } from '../log/run-store.js'
import { type RunListener, Watcher } from '../log/watcher.js'
import type { CreateConnection } from './client.js'
import { RedisConnection } from './connection.js'

/** Without a PING, nobody would notice a dead connection, and watchers would wait for ever. */
const PING_INTERVAL_MS = 5000

export interface RunWatchOptions {
  readonly createConnection: CreateConnection
  readonly channels: string
  readonly timeout: number
  /** Undefined if the message does not contain the news. */
  readonly parse: (message: string) => RunNews | undefined
}

interface Topic {
  readonly channel: string
  readonly watchers: Set<Watcher>
  /** The connection on which the subscription stands. */
  subscribed: RedisConnection | undefined
  isChanging: boolean
}

export class RunWatch {
  readonly #options: RunWatchOptions
  readonly #topics = new Map<string, Topic>()
  readonly #managed: ManagedConnection<RedisConnection>
  #connection: RedisConnection | undefined
  #isClosed = false

  constructor(options: RunWatchOptions) {
    this.#options = options
    const { createConnection, timeout } = options
    this.#managed = new ManagedConnection({
      create: () => new RedisConnection(createConnection, timeout),
      use: (connection, onHealthy) => this.#use(connection, onHealthy),
      onFail: () => {
        this.#connection = undefined
      },
    })
  }

  watch(id: string, listener: RunListener): () => void {
    if (this.#isClosed) return () => {}
    this.#managed.open()
    const watcher = new Watcher(listener)
    const topic = this.#topic(id)
    topic.watchers.add(watcher)
    // This watcher may have missed what the subscription has brought so far.
    if (this.#isStanding(topic)) watcher.call()
    else this.#change(topic)
    return () => {
      watcher.stop()
      topic.watchers.delete(watcher)
      if (!this.#isClosed) this.#change(topic)
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const { watchers } of this.#topics.values()) for (const watcher of watchers) watcher.stop()
    this.#topics.clear()
    await this.#managed.close()
  }

  #topic(id: string): Topic {
    const channel = `${this.#options.channels}${id}`
    let topic = this.#topics.get(channel)
    if (topic === undefined) {
      topic = { channel, watchers: new Set(), subscribed: undefined, isChanging: false }
      this.#topics.set(channel, topic)
    }
    return topic
  }

  #isStanding({ subscribed }: Topic): boolean {
    return subscribed !== undefined && subscribed === this.#connection
  }

  async #use(connection: RedisConnection, onHealthy: () => void): Promise<never> {
    const { timeout } = this.#options
    this.#connection = connection
    for (const topic of this.#topics.values()) this.#change(topic)
    const ended = new AbortController()
    const closed = connection.closed.then(reason => {
      ended.abort()
      throw reason
    })
    closed.catch(() => {})
    for (;;) {
      await Promise.race([closed, connection.send(['PING'], timeout)])
      onHealthy()
      const silence = pause(PING_INTERVAL_MS, undefined, { signal: ended.signal, ref: false })
      await Promise.race([closed, silence.catch(() => closed)])
    }
  }

  /**
   * Subscribes or unsubscribes, one after the other for each channel: the replies do not say which request they
   * belong to.
   */
  async #change(topic: Topic): Promise<void> {
    if (topic.isChanging) return
    topic.isChanging = true
    const { timeout } = this.#options
    for (;;) {
      const connection = this.#connection
      const isWanted = topic.watchers.size > 0
      if (connection === undefined || isWanted === this.#isStanding(topic)) break
      try {
        if (isWanted) {
          await connection.subscribe(topic.channel, message => this.#tell(topic, message), timeout)
          topic.subscribed = connection
          for (const watcher of topic.watchers) watcher.call()
        } else {
          topic.subscribed = undefined
          await connection.unsubscribe(topic.channel, timeout)
        }
      } catch (error) {
        // The next connection subscribes again, after a pause.
        connection.destroy(error instanceof Error ? error : new Error(String(error)))
        if (connection === this.#connection) this.#connection = undefined
      }
    }
    topic.isChanging = false
    const isUnused = topic.watchers.size === 0 && !this.#isStanding(topic)
    if (isUnused && this.#topics.get(topic.channel) === topic) this.#topics.delete(topic.channel)
  }

  #tell(topic: Topic, message: string): void {
    const news = message === '' ? undefined : this.#options.parse(message)
    for (const watcher of topic.watchers) watcher.call(news)
  }
}
