/**
 * The clients that are connected to this process, their streams, and the channels that these have joined.
 * Membership decides which entries a stream gets, and where it starts in a channel.
 */
import type { Pump } from '../delivery/pump.js'
import type { Target } from '../delivery/target.js'
import type { Window } from '../delivery/window.js'
import { channelName } from '../lib/names.js'
import { formatTarget } from '../log/log.js'
import { Connections, isSession } from '../stream/connections.js'
import type { Client, EventStream } from '../stream/event-stream.js'
import type { Stream } from '../stream/stream.js'
import { ConnectedClient, type Sender } from './client.js'
import { Polls } from './polls.js'
import type { Refusal } from './stats.js'
import { Subscription } from './subscription.js'

export interface MembersOptions {
  readonly maxClients: number
  readonly maxStreamsPerClient: number
  readonly maxStreamsPerConnection: number
  readonly onDuplicate: 'replace' | 'reject'
  readonly stallTimeout: number
}

export class Members {
  /** By id. */
  readonly clients = new Map<string, Client>()
  readonly connections: Connections
  readonly polls = new Polls()
  readonly #window: Window
  readonly #pump: Pump
  readonly #sender: Sender
  readonly #options: MembersOptions

  constructor(window: Window, pump: Pump, sender: Sender, options: MembersOptions) {
    this.#window = window
    this.#pump = pump
    this.#sender = sender
    this.#options = options
    this.connections = new Connections(options.stallTimeout)
  }

  /** The number of streams. */
  get size(): number {
    return this.#window.everyone.size
  }

  /** All streams. The iterator stays valid while they come and go. */
  streams(): IterableIterator<Stream> {
    return streamsOf(this.#window.everyone)
  }

  /**
   * Why there is no place for another stream or poll of this id on this connection; without an id, why there is none for
   * any.
   */
  refusal(id?: string, connection?: object): Refusal | undefined {
    const { maxClients, maxStreamsPerClient, maxStreamsPerConnection, onDuplicate } = this.#options
    const { connections } = this
    const carried = connection === undefined ? 0 : connections.carriedBy(connection)
    if (carried >= maxStreamsPerConnection) return 'connection'
    const isDuplicate = id !== undefined && this.#placesOf(id) >= maxStreamsPerClient
    if (isDuplicate && onDuplicate === 'reject') return 'duplicate'
    // A stream that replaces another needs no place of its own; without an id it may be such a stream.
    const mayReplace =
      id === undefined
        ? onDuplicate === 'replace' && maxStreamsPerClient !== Number.POSITIVE_INFINITY
        : isDuplicate
    const isPipelined = carried > 0 && !isSession(connection as object)
    if (mayReplace || isPipelined) return undefined
    const places = this.size + this.polls.size - connections.pipelined
    return places >= maxClients ? 'full' : undefined
  }

  /** How many streams of this process a client has. */
  streamsOfClient(id: string): number {
    return this.clients.has(id) ? this.targetOf(id).size : 0
  }

  #placesOf(id: string): number {
    return this.streamsOfClient(id) + this.polls.of(id).size
  }

  /** The open streams of a client, as the app holds them; oldest first. */
  facesOf(id: string): EventStream[] {
    return this.clients.has(id) ? Array.from(streamsOf(this.targetOf(id)), ({ face }) => face) : []
  }

  /** The client with this id; a new one if there is none. */
  client(id: string): Client {
    let client = this.clients.get(id)
    if (client === undefined) {
      client = new ConnectedClient(id, this, this.#sender)
      this.clients.set(id, client)
    }
    return client
  }

  /** The target with the entries for a client, whether or not it is connected. */
  targetOf(id: string): Target {
    return this.#window.target(formatTarget({ kind: 'client', name: id }))
  }

  /** How many streams of this process have joined a channel. */
  sizeOfChannel(name: string): number {
    return this.#window.sizeOf(formatTarget({ kind: 'channel', name }))
  }

  /** What this process has in a channel. A client with several streams there counts once. */
  countChannel(name: string): { clients: number; streams: number } {
    const streams = this.sizeOfChannel(name)
    // An unknown channel is not made by asking for it.
    const members = streams === 0 ? [] : streamsOf(this.#channel(name))
    const clients = new Set([...members].map(({ id }) => id))
    return { clients: clients.size, streams }
  }

  /** @throws TypeError for a wrong name, before the first target is made. */
  channelTargets(channels: readonly string[]): Target[] {
    checkNames(channels)
    const names = [...new Set(channels)]
    return names.map(name => this.#channel(name))
  }

  /** Makes a new stream a member of everyone, of its client and of these channels. */
  add(stream: Stream, channels: readonly string[]): void {
    // The client's own comes last: the window looks it up only if the others do not hold what is new.
    const targets = [this.#window.everyone, ...this.channelTargets(channels), stream.clientTarget]
    stream.follow(targets)
    for (const target of targets) target.add(stream)
    this.connections.join(stream.connection)
  }

  remove(stream: Stream): void {
    this.connections.leave(stream.connection)
    for (const target of stream.targets) this.#removeFrom(target, stream)
    stream.follow([])
    // Another stream of the same id may have come in the meantime; that one keeps the client.
    if (stream.clientTarget.size === 0) this.clients.delete(stream.id)
  }

  /** Ends a client's oldest streams, then polls, if the newcomer is one over `maxStreamsPerClient`. */
  replaceOldest(newcomer: Stream | Subscription): void {
    const { id } = newcomer
    const excess = this.#placesOf(id) - this.#options.maxStreamsPerClient
    if (excess <= 0) return
    const streams = this.clients.has(id) ? streamsOf(this.targetOf(id)) : []
    const others = [...streams, ...this.polls.of(id)].filter(other => other !== newcomer)
    for (const other of others.slice(0, excess)) {
      if (other instanceof Subscription) other.end()
      else other.close('replaced', { after: this.#window.tail })
    }
  }

  join(stream: Stream, channels: readonly string[]): void {
    checkNames(channels)
    // Deliver what is older than the join first, or older entries of the channel would come with it.
    this.#pump.advance(stream)
    // What was just delivered may have ended the stream.
    if (stream.isClosed) return
    const joined = this.channelTargets(channels).filter(target => !target.has(stream))
    stream.join(this.#window, joined)
    for (const target of joined) target.add(stream)
  }

  leave(stream: Stream, channels: readonly string[]): void {
    checkNames(channels)
    this.#pump.advance(stream)
    for (const target of this.channelTargets(channels)) {
      stream.leave(this.#window, target)
      this.#removeFrom(target, stream)
    }
  }

  /** Adds the streams that a client has now. Long polls name their channels with each request. */
  joinClient(id: string, channel: string): void {
    if (!this.clients.has(id)) return
    const target = this.#channel(channel)
    for (const stream of streamsOf(this.targetOf(id))) {
      if (target.has(stream)) continue
      stream.join(this.#window, [target])
      target.add(stream)
    }
    this.#window.release(target)
  }

  /** Takes out the streams and long polls that a client has now. */
  leaveClient(id: string, channel: string): void {
    const target = this.#channel(channel)
    if (this.clients.has(id)) {
      for (const stream of streamsOf(this.targetOf(id))) {
        stream.leave(this.#window, target)
        target.delete(stream)
        // The target's members get what was sent before, and it is none any more.
        this.#pump.visitReader(stream)
      }
    }
    for (const poll of this.polls.of(id)) {
      poll.leave(this.#window, target)
      target.unsubscribe(poll)
    }
    this.#window.release(target)
  }

  #channel(name: string): Target {
    return this.#window.target(formatTarget({ kind: 'channel', name }))
  }

  #removeFrom(target: Target, stream: Stream): void {
    target.delete(stream)
    this.#window.release(target)
  }
}

function checkNames(channels: readonly string[]): void {
  for (const name of channels) channelName(name)
}

function streamsOf(target: Target): IterableIterator<Stream> {
  return target.members() as IterableIterator<unknown> as IterableIterator<Stream>
}
