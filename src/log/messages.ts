/**
 * Messages between the processes that share a log: a topic and a body. A message takes no place in the
 * window, so it displaces no event there. It does count against the number of entries that an engine
 * keeps.
 */
import type { EventLog } from './log.js'

/** The target of a message between processes. Versions without messages treat it as a mark. */
export const MESSAGE = '?'

/** Receives the messages of a topic. A body may come from a newer version, so the listener checks it. */
export interface Listener {
  /** A message was just published, by this process or another. */
  receive(body: unknown): void
  /**
   * The log already held the message when the window was filled. A listener may ignore these.
   * @param isNew whether it came after all that this process had read before.
   */
  replay?(body: unknown, isNew: boolean): void
  /** Continuity was lost: messages may have been missed. What the log still has is replayed next. */
  missed?(): void
}

export class Messages {
  readonly #log: Pick<EventLog, 'append'> | undefined
  readonly #nonce: () => string
  readonly #listeners = new Map<string, Listener>()

  /** @param log the log that carries them; undefined when no other process shares it. */
  constructor(log: Pick<EventLog, 'append'> | undefined, nonce: () => string) {
    this.#log = log
    this.#nonce = nonce
  }

  /** Whether no other process can receive anything. */
  get isAlone(): boolean {
    return this.#log === undefined
  }

  listen(topic: string, listener: Listener): void {
    this.#listeners.set(topic, listener)
  }

  /** Resolves when the log has stored it; rejects as the log's append does. */
  async publish(topic: string, body: object): Promise<void> {
    const frame = messageFrame(topic, body)
    await this.#log?.append({ nonce: this.#nonce(), target: MESSAGE, frame })
  }

  /** Passes on a {@link MESSAGE} that the log has delivered. */
  receive(frame: string): void {
    const message = parse(frame)
    if (message !== undefined) this.#listeners.get(message.topic)?.receive(message.body)
  }

  /** Passes on a {@link MESSAGE} that was among the entries that fill the window. */
  replay(frame: string, isNew = false): void {
    const message = parse(frame)
    if (message !== undefined) this.#listeners.get(message.topic)?.replay?.(message.body, isNew)
  }

  /** Tells all listeners that continuity was lost. */
  missed(): void {
    for (const listener of this.#listeners.values()) listener.missed?.()
  }
}

/** A message as an entry's frame. */
export function messageFrame(topic: string, body: object): string {
  return JSON.stringify({ topic, body })
}

/** Undefined for a message that only a newer version understands. */
function parse(frame: string): { topic: string; body: unknown } | undefined {
  try {
    const { topic, body } = JSON.parse(frame) as { topic?: unknown; body?: unknown }
    return typeof topic === 'string' ? { topic, body } : undefined
  } catch {
    return undefined
  }
}
