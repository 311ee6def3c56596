/**
 * Who is connected on this process: clients by id, their streams, and the channels that these have
 * joined. Membership is what makes a stream get an entry, and decides where it starts in a channel.
 */

import type { Target } from '../delivery/target.js'
import type { Window } from '../delivery/window.js'
import { channelName } from '../lib/names.js'
import { formatTarget } from '../log/log.js'
import type { EventStream } from '../stream/stream.js'
import { Client, type Sender } from './client.js'
import type { Refusal } from './stats.js'

export interface MembersOptions<Events extends object> {
  readonly window: Window
  readonly maxClients: number
  readonly maxStreamsPerClient: number
  readonly onDuplicate: 'replace' | 'reject'
  readonly sender: Sender<Events>
  readonly advance: (stream: EventStream) => void
}

export class Members<Events extends object> {
  readonly clients = new Map<string, Client<Events>>()
  readonly #options: MembersOptions<Events>
  #channels = 0

  constructor(options: MembersOptions<Events>) {
    this.#options = options
  }

  get everyone(): Target {
    return this.#options.window.everyone
  }

  /** Open streams. */
  get size(): number {
    return this.everyone.size
  }

  /** Channels with at least one member. */
  get channels(): number {
    return this.#channels
  }

  /** All streams; right also while they come and go. */
  streams(): IterableIterator<EventStream> {
    return this.everyone.members() as IterableIterator<unknown> as IterableIterator<EventStream>
  }

  /** Why there is no place for one more; before its id is known, why for none at all. */
  refusal(id?: string): Refusal | undefined {
    const { maxClients, maxStreamsPerClient, onDuplicate } = this.#options
    const own = id === undefined ? 0 : (this.clients.get(id)?.target.size ?? 0)
    const isDuplicate = own >= maxStreamsPerClient
    if (isDuplicate && onDuplicate === 'reject') return 'duplicate'
    // One that takes another's place needs no room of its own; without an id any might be one.
    const mayReplace =
      id === undefined
        ? onDuplicate === 'replace' && maxStreamsPerClient !== Number.POSITIVE_INFINITY
        : isDuplicate
    return this.size >= maxClients && !mayReplace ? 'full' : undefined
  }

  /** The client of that id, made when there is none. */
  client(id: string): Client<Events> {
    let client = this.clients.get(id)
    if (client === undefined) {
      client = new Client<Events>(id, this.targetOf(id), this.#options.sender)
      this.clients.set(id, client)
    }
    return client
  }

  /** Where the entries for a client are, connected or not. */
  targetOf(id: string): Target {
    return this.#options.window.target(formatTarget({ kind: 'client', name: id }))
  }

  /** @throws TypeError for a wrong name. */
  channelTargets(channels: readonly string[]): Target[] {
    checkAll(channels)
    const names = [...new Set(channels)]
    return names.map(name => this.#options.window.target(formatTarget({ kind: 'channel', name })))
  }

  /** A new stream becomes a member of everyone, of its client and of these channels. */
  add(stream: EventStream, channels: readonly string[]): void {
    // The client's own last: it is looked at only if the others leave anything open.
    stream.targets = [this.everyone, ...this.channelTargets(channels), stream.client.target]
    for (const target of stream.targets) this.#addTo(target, stream)
  }

  remove(stream: EventStream): void {
    for (const target of stream.targets) this.#removeFrom(target, stream)
    stream.targets = []
    // Another stream of the same id may have come in the meantime: that one keeps the client.
    if (stream.client.target.size === 0) this.clients.delete(stream.id)
  }

  /** Closes the client's oldest streams, if it has more than it may have. */
  replaceOldest(client: Client<Events>): void {
    const excess = client.target.size - this.#options.maxStreamsPerClient
    if (excess <= 0) return
    for (const stream of [...client.streams].slice(0, excess)) {
      // Told before and still there: it does not read, and would hold a place for each newcomer.
      if (stream.isEnding) stream.destroy('replaced')
      else stream.finish('replaced', 'data:\n\n')
    }
  }

  join(stream: EventStream, channels: readonly string[]): void {
    const { window, advance } = this.#options
    checkAll(channels)
    // What waits for it is older than its joining, and must not drag in older entries of the channel.
    advance(stream)
    // By what it got just now it may have ended.
    if (stream.isClosed) return
    for (const target of this.channelTargets(channels)) {
      if (target.has(stream)) continue
      this.#addTo(target, stream)
      stream.targets = [target, ...stream.targets]
      if (stream.parked || stream.cursor < window.tail) {
        stream.joinedAt ??= new Map()
        stream.joinedAt.set(target, window.tail)
      }
    }
  }

  leave(stream: EventStream, channels: readonly string[]): void {
    checkAll(channels)
    this.#options.advance(stream)
    for (const left of this.channelTargets(channels)) {
      this.#removeFrom(left, stream)
      stream.targets = stream.targets.filter(target => target !== left)
    }
  }

  #addTo(target: Target, stream: EventStream): void {
    if (target.size === 0 && isChannel(target)) this.#channels += 1
    target.add(stream)
  }

  #removeFrom(target: Target, stream: EventStream): void {
    if (target.delete(stream) && target.size === 0 && isChannel(target)) this.#channels -= 1
    this.#options.window.release(target)
  }
}

function isChannel(target: Target): boolean {
  return target.name.startsWith('#')
}

/** All names are checked before the first target is made, or a wrong one would leave some behind. */
function checkAll(channels: readonly string[]): void {
  for (const name of channels) channelName(name)
}
