/** Gives a page the members of a channel, so that the changes that it gets from then on apply on top. */
import type { Hub } from '../pool/hub.js'
import type { EventStream } from '../stream/event-stream.js'
import type { Roster } from './roster.js'

/** Characters of the members in one `presence.snapshot`. */
const SNAPSHOT_LENGTH = 16_384

/** What {@link Presence.track} needs of `ctx.sse`. Only an object with its other members gets a snapshot. */
export interface TrackedStream {
  /** The client's id. */
  readonly id: string
  /** Resolves when the stream has closed. */
  readonly closed: Promise<unknown>
}

/** A stream that can be given the members. A {@link TrackedStream} of a test may do without. */
type ShownStream = Pick<EventStream, 'id' | 'isOpen' | 'channels' | 'send' | 'drained'>

/** The roster of this process, which is out of date while it asks for another. */
export interface RosterSource {
  roster(): Roster
  isSynced(): boolean
}

export class Snapshots {
  readonly #hub: Hub
  readonly #source: RosterSource
  /** The number of the last change in each channel that has members. */
  readonly #changedAt = new Map<string, number>()
  #changes = 0

  constructor(hub: Hub, source: RosterSource) {
    this.#hub = hub
    this.#source = source
  }

  /** A member of the channel has joined, changed or left. */
  changed(channel: string): void {
    this.#changes += 1
    if (this.#source.roster().hasMembers(channel)) this.#changedAt.set(channel, this.#changes)
    else this.#changedAt.delete(channel)
  }

  /**
   * Sends the members of a channel to one stream. The roster is never older than the events that the log has
   * delivered, so later events apply on top of it, in whatever order the two arrive.
   */
  async show(tracked: TrackedStream, channel: string): Promise<void> {
    const stream = tracked as TrackedStream & Partial<ShownStream>
    if (!isShown(stream)) return
    let isCurrent = false
    while (!isCurrent && this.#source.isSynced() && stream.isOpen) {
      const version = this.#changedAt.get(channel)
      let arrival: Promise<void> | undefined
      const ids = this.#source.roster().ids(channel)
      for (let next = 0, isFirst = true; isFirst || next < ids.length; isFirst = false) {
        const members: string[] = []
        for (let left = SNAPSHOT_LENGTH; next < ids.length && left > 0; next += 1) {
          const id = ids[next] as string
          // Read only now: a client that is slow to take the first part gets no old states in the next.
          const state = this.#source.roster().stateOf(channel, id)
          if (state === undefined) continue
          const member = `{"id":${JSON.stringify(id)},"state":${state}}`
          members.push(member)
          left -= member.length
        }
        arrival = this.#arrival(stream) ?? arrival
        const text = `{"channel":${JSON.stringify(channel)},"isFirst":${isFirst},"members":[${members}]}`
        stream.send({ event: 'presence.snapshot', data: text })
        if (!(await stream.drained())) return
      }
      // A direct send waits for the sends of this process that are in flight. A change that was delivered before
      // one of them would be overwritten by the older snapshot.
      await arrival
      isCurrent = arrival === undefined || this.#changedAt.get(channel) === version
    }
  }

  /** Resolves when all sends that a direct send to the stream waits for have arrived; undefined if there are none. */
  #arrival({ id, channels }: ShownStream): Promise<void> | undefined {
    const targets = ['*', `@${id}`, ...channels.map(name => `#${name}`)].map(name => ({ name }))
    const { inFlight } = this.#hub
    if (!inFlight.isAwaited(targets)) return undefined
    return new Promise(resolve => {
      let left = 0
      const waiter = {
        settled: () => {
          left -= 1
          if (left === 0) resolve()
        },
      }
      left = inFlight.waitFor(targets, waiter)
    })
  }
}

function isShown(
  stream: TrackedStream & Partial<ShownStream>,
): stream is ShownStream & TrackedStream {
  return stream.isOpen === true && stream.send !== undefined && stream.drained !== undefined
}
