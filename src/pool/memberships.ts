/**
 * Adds clients to channels and takes them out, on all processes. Each change is a message in the log, so it
 * falls between the same two entries everywhere: a client that is taken out gets what was sent to the channel
 * before, and nothing that was sent after.
 */
import { type Listener, type Messages, messageFrame } from '../log/messages.js'

interface Change {
  readonly does: 'add' | 'remove'
  readonly channel: string
  /** The client's id. */
  readonly id: string
}

/** Knows the streams of each client: the members. */
export interface ChannelMembers {
  joinClient(id: string, channel: string): void
  leaveClient(id: string, channel: string): void
}

const TOPIC = 'channel'

export class Memberships implements Listener {
  readonly #members: ChannelMembers

  constructor(messages: Messages, members: ChannelMembers) {
    this.#members = members
    messages.listen(TOPIC, this)
  }

  /** What to append to the log for a change. */
  frameOf(change: Change): string {
    return messageFrame(TOPIC, change)
  }

  receive(body: unknown): void {
    const { does, channel, id } = (body ?? {}) as Record<string, unknown>
    if (typeof channel !== 'string' || typeof id !== 'string') return
    if (does === 'add') this.#members.joinClient(id, channel)
    if (does === 'remove') this.#members.leaveClient(id, channel)
  }

  /** Older changes are not repeated: clients have connected since, with the channels that they have now. */
  replay(body: unknown, isNew: boolean): void {
    if (isNew) this.receive(body)
  }
}
