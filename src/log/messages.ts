/**
 * What the processes that share a log say to each other: a topic and a body. It passes through the
 * log without a place in the window, so it displaces no event there; in an engine that keeps a number
 * of entries it does count.
 */

/** The target of a message between processes; versions that know none take it for a mark. */
export const MESSAGE = '?'

/** Who hears of a topic. A body may come from a newer version, so it is for the listener to check. */
export interface Listener {
  /** It came just now, from this process or another. */
  hear(body: unknown): void
  /** The log held it already when the window was filled. Who has no such method never learns of it. */
  recall?(body: unknown): void
  /** Continuity was lost: some may have passed unheard. What is still there is recalled next. */
  missed?(): void
}

export class Messages {
  readonly #append: ((frame: string) => Promise<unknown>) | undefined
  readonly #listeners = new Map<string, Listener>()

  /** @param append puts a message into the log; undefined when no other process shares it. */
  constructor(append: ((frame: string) => Promise<unknown>) | undefined) {
    this.#append = append
  }

  /** Whether nobody else can hear. */
  get isAlone(): boolean {
    return this.#append === undefined
  }

  listen(topic: string, listener: Listener): void {
    this.#listeners.set(topic, listener)
  }

  /** Resolves when the log has stored it; rejects as the log's append does. */
  async tell(topic: string, body: object): Promise<void> {
    await this.#append?.(JSON.stringify({ topic, body }))
  }

  /** What came by the log as a {@link MESSAGE}. */
  hear(frame: string): void {
    const message = parse(frame)
    if (message !== undefined) this.#listeners.get(message.topic)?.hear(message.body)
  }

  /** A {@link MESSAGE} among what the window is filled with. */
  recall(frame: string): void {
    const message = parse(frame)
    if (message !== undefined) this.#listeners.get(message.topic)?.recall?.(message.body)
  }

  missed(): void {
    for (const listener of this.#listeners.values()) listener.missed?.()
  }
}

/** Undefined for what a newer version may say. */
function parse(frame: string): { topic: string; body: unknown } | undefined {
  try {
    const { topic, body } = JSON.parse(frame) as { topic?: unknown; body?: unknown }
    return typeof topic === 'string' ? { topic, body } : undefined
  } catch {
    return undefined
  }
}
