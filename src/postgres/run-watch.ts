/**
 * The watchers of runs, on a connection of their own that LISTENs to the changes of all runs.
 *
 * A NOTIFY names the run and its version, and is only a bell: watchers are called without news, and read. Nothing
 * depends on it. When a run gets its first watcher, after each reconnection, and every `pollMs`, the versions of all
 * watched runs are read in one query, and the watchers of those that have changed are called. That query also notices
 * a dead connection, on which watchers would wait for ever.
 */
import { ManagedConnection } from '../log/connection.js'
import { type RunListener, Watcher } from '../log/watcher.js'
import { type CreateClient, PgConnection } from './connection.js'
import type { RunNames } from './run-schema.js'

export interface RunWatchOptions {
  readonly createClient: CreateClient
  readonly names: RunNames
  readonly timeout: number
  readonly pollMs: number
}

/** Which run of an id it is, and how often it has changed; infinity once it is deleted. */
interface Version {
  readonly run: string
  readonly changes: number
}

interface Topic {
  readonly watchers: Set<Watcher>
  /** The newest version that is known. */
  version: Version | undefined
  /** Whether its version has been read on this connection, so that a change is noticed from then on. */
  isStanding: boolean
}

export class RunWatch {
  readonly #options: RunWatchOptions
  readonly #topics = new Map<string, Topic>()
  readonly #managed: ManagedConnection<PgConnection>
  /** Some topic has no version yet. */
  #hasNew = false
  #wake: () => void = () => {}
  #isClosed = false

  constructor(options: RunWatchOptions) {
    this.#options = options
    const { createClient, timeout } = options
    this.#managed = new ManagedConnection({
      create: () => new PgConnection(createClient, timeout),
      use: (connection, onHealthy) => this.#follow(connection, onHealthy),
      // Watchers are called once there is a new connection.
      onFail: () => {},
    })
  }

  watch(key: string, listener: RunListener): () => void {
    if (this.#isClosed) return () => {}
    this.#managed.open()
    const watcher = new Watcher(listener)
    const topic = this.#topic(key)
    topic.watchers.add(watcher)
    // This watcher may have missed what the others were called for.
    if (topic.isStanding) watcher.call()
    return () => {
      watcher.stop()
      topic.watchers.delete(watcher)
      if (topic.watchers.size === 0 && this.#topics.get(key) === topic) this.#topics.delete(key)
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const { watchers } of this.#topics.values()) for (const watcher of watchers) watcher.stop()
    this.#topics.clear()
    await this.#managed.close()
  }

  #topic(key: string): Topic {
    let topic = this.#topics.get(key)
    if (topic === undefined) {
      topic = { watchers: new Set(), version: undefined, isStanding: false }
      this.#topics.set(key, topic)
      this.#hasNew = true
      this.#wake()
    }
    return topic
  }

  async #follow(connection: PgConnection, onHealthy: () => void): Promise<never> {
    const { names, pollMs } = this.#options
    for (const topic of this.#topics.values()) topic.isStanding = false
    connection.onNotification(payload => this.#ring(payload))
    void connection.closed.then(() => this.#wake())
    await connection.query(`LISTEN "${names.channel}"`)
    for (;;) {
      this.#hasNew = false
      const topics = new Map(this.#topics)
      const rows = await connection.query(
        `SELECT id, run, version FROM ${names.runs} WHERE id = ANY ($1)`,
        [[...topics.keys()]],
      )
      onHealthy()
      this.#compare(topics, rows as [string, string, string][])
      // A topic that was added meanwhile was not asked for.
      if (this.#hasNew) continue
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, pollMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** @param topics those that were asked for, also if they have no row */
  #compare(topics: ReadonlyMap<string, Topic>, rows: [id: string, run: string, version: string][]) {
    const found = new Map(rows.map(([id, run, version]) => [id, { run, changes: Number(version) }]))
    for (const [key, topic] of topics) {
      const version = found.get(key) ?? { run: topic.version?.run ?? '', changes: Infinity }
      const isNews = advance(topic, version)
      if (topic.isStanding && !isNews) continue
      topic.isStanding = true
      callAll(topic)
    }
  }

  #ring(payload: string): void {
    const [, run, version, key = ''] = /^(\d+) (\d+|gone) (.*)$/s.exec(payload) ?? []
    const topic = this.#topics.get(key)
    if (run === undefined || topic === undefined) return
    const changes = version === 'gone' ? Infinity : Number(version)
    // Without a version of its own yet, its watchers will be called in any case.
    if (advance(topic, { run, changes }) && topic.isStanding) callAll(topic)
  }
}

/**
 * Whether this version is news. The bell and the query may tell of the same change, or of two in the wrong order.
 */
function advance(topic: Topic, version: Version): boolean {
  const known = topic.version
  if (known?.run === version.run && version.changes <= known.changes) return false
  topic.version = version
  return true
}

function callAll({ watchers }: Topic): void {
  for (const watcher of watchers) watcher.call()
}
