/**
 * Keeps this process's roster up to date, and tells the pages of its changes.
 *
 * The processes agree by the order of the log alone. Each change has a number and a nonce that all of them derive
 * from it. One process, the teller, sends the changes to the pages, one after the other. If it dies, the next one
 * repeats those that may not have been sent: the log stores each nonce once, so the pages get each change once.
 */
import { createHash } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { got } from '../lib/errors.js'
import { channelName } from '../lib/names.js'
import { nonceSource } from '../lib/random.js'
import { type Hub, hubOf } from '../pool/hub.js'
import type { ClientPool } from '../pool/pool.js'
import { type PresenceOptions, type ResolvedPresenceOptions, resolvePresence } from './options.js'
import { type Change, type Message, PART_LENGTH, type Part, placeOf, Roster } from './roster.js'
import { Snapshots, type TrackedStream } from './snapshots.js'

/** A member of a channel: a client with at least one tracked stream, on any process. */
export interface Member {
  /** The client's id. */
  readonly id: string
  /** What {@link Presence.track} was last given for it. */
  readonly state: unknown
}

/** The events of a {@link Presence}, and the arguments of each event's listeners. */
export interface PresenceEvents {
  /** A client has become a member of a channel. */
  join: [channel: string, member: Member]
  /** The state of a member has changed. */
  update: [channel: string, member: Member]
  /** A client is no longer a member of a channel. */
  leave: [channel: string, member: Member]
}

interface Tracked {
  readonly channel: string
  readonly id: string
  readonly streams: Set<TrackedStream>
  /** JSON. */
  state: string
  timer: NodeJS.Timeout | undefined
}

/** A message without what every message has. */
type Saying = Message extends infer M ? (M extends Message ? Omit<M, 'from' | 'n'> : never) : never

const TOPIC = 'roster'

const MAX_STATE = 4096

/** How many members one message may set or remove. */
const BATCH = 100

/** Ticks in a lease. A process that has no roster asks for it at each tick. */
const TICKS = 20

/** Ticks between two signs of life. */
const ALIVE_TICKS = 5

/** A process that is silent while this many signs of life of another arrive is dead: more than a lease. */
const SILENT_BEATS = 5

/** A process whose question is not answered this often, and that hears no other, has no one to ask. */
const UNANSWERED = 6

/** The pools that have one: two would answer each other's messages. */
const taken = new WeakSet<Hub>()

/**
 * Who is in a channel, on all processes: a member for each client, however many tabs it has. An instance belongs
 * to one pool, and every process that shares the pool's log needs one, with the same `lease`.
 *
 * A tracked stream first gets `presence.snapshot` with all members: `{ channel, isFirst, members: [{ id, state }] }`,
 * in several events if they are many; `isFirst` says that the page must forget those that it had. After it, and in the
 * order of the log, all streams in the channel get `presence.join`, `presence.update` or `presence.leave` with
 * `{ channel, id, state }` for each change. A tracked stream gets a new snapshot after a gap. When the processes have
 * lost the roster, because all of them ended or the log lost entries, everyone gets `presence.reset`, after which the
 * members that are there join again.
 *
 * @example
 * ```js
 * const presence = new Presence({ pool })
 *
 * router.get('/rooms/:room', sse({ pool, id, channels: ctx => [ctx.params.room] }), ctx => {
 *   presence.track(ctx.sse, ctx.params.room, { name: ctx.state.user.name })
 * })
 * router.get('/rooms/:room/members', ctx => {
 *   ctx.body = presence.members(ctx.params.room)
 * })
 * ```
 */
export class Presence extends EventEmitter<PresenceEvents> {
  readonly #hub: Hub
  readonly #options: ResolvedPresenceOptions
  readonly #nonce = nonceSource()
  readonly #timer: NodeJS.Timeout
  /** What this process wants the roster to say of it, by {@link placeOf}. */
  readonly #tracked = new Map<string, Tracked>()
  /** The channels in which a stream is tracked. */
  readonly #channels = new WeakMap<TrackedStream, Set<string>>()
  /** What it has said, by {@link placeOf}. */
  readonly #said = new Map<string, string>()
  /** The places of which the log may not say what it should. To look at all for each change would cost n² steps. */
  readonly #unsaid = new Set<string>()
  readonly #outbox: Saying[] = []
  /** How many signs of life of this process came since another process's last message. */
  readonly #silence = new Map<string, number>()
  /** Resolves {@link ready}. */
  #setReady = () => {}
  readonly #ready = new Promise<void>(resolve => {
    this.#setReady = resolve
  })
  /** The one that {@link members} reads; out of date while this process asks for another. */
  #roster = new Roster()
  #isSynced = false
  #self = ''
  #previous: { name: string; seen: number } | undefined
  #n = 0
  /** What came since this process's first question, until it is answered. */
  #buffer: Message[] = []
  #unanswered = 0
  #ticks = 0
  #told = 0
  #mustReset = false
  /** The parts of a roster that have arrived, and which answer they belong to. */
  #parts: { answer: string; list: Part[] } = { answer: '', list: [] }
  readonly #snapshots: Snapshots
  /** One timer for each closed process whose members have not left yet. */
  readonly #farewells = new Map<string, NodeJS.Timeout>()
  #closing: Promise<void> | undefined
  /** Set while messages are being published. */
  #publishing: Promise<void> | undefined
  #isTelling = false
  #isClosed = false
  /** When the message was published that came back last. */
  #heardAt = 0
  readonly #publishedAt = new Map<number, number>()

  /** @throws TypeError that names the option, when one is unknown, missing or wrong. */
  constructor(options: PresenceOptions) {
    super()
    this.#options = resolvePresence(options)
    this.#hub = hubOf(this.#options.pool)
    if (taken.has(this.#hub)) throw new TypeError('Presence: this pool has a Presence already')
    taken.add(this.#hub)
    this.#snapshots = new Snapshots(this.#hub, {
      roster: () => this.#roster,
      isSynced: () => this.#isSynced,
    })
    this.#hub.messages.listen(TOPIC, {
      receive: body => {
        if (isMessage(body) && !this.#isClosed) this.#receive(body)
      },
      missed: () => this.#restart(),
    })
    const pool = this.#options.pool as ClientPool
    pool.on('start', stream => this.#showAll(stream))
    // What it missed may have been changes.
    pool.on('gap', stream => this.#showAll(stream))
    this.#hub.beforeClose = () => this.close()
    this.#restart()
    this.#timer = setInterval(() => this.#tick(), this.#options.lease / TICKS).unref()
  }

  /** Resolves when this process knows who is present on all processes; never if the log stays out of reach. */
  ready(): Promise<void> {
    return this.#ready
  }

  /**
   * Makes the stream's client a member of a channel for as long as the stream is open, and `grace` longer, and sends
   * the stream the channel's members as soon as it is open. Does not join the channel, which must happen before. A
   * second call changes the state.
   *
   * @param state what others see of the member: JSON of at most 4096 characters. It belongs to the client and not
   * to the stream: the last one counts. Default `null`.
   * @throws TypeError for a wrong name or state.
   */
  track(stream: TrackedStream, channel: string, state: unknown = null): void {
    const text = stateText(state)
    const place = placeOf(channelName(channel), stream.id)
    const tracked = this.#tracked.get(place) ?? {
      channel,
      id: stream.id,
      streams: new Set<TrackedStream>(),
      state: text,
      timer: undefined,
    }
    this.#tracked.set(place, tracked)
    clearTimeout(tracked.timer)
    tracked.state = text
    this.#unsaid.add(place)
    if (!tracked.streams.has(stream)) {
      tracked.streams.add(stream)
      this.#channels.set(stream, (this.#channels.get(stream) ?? new Set()).add(channel))
      void stream.closed.then(() => this.#lose(place, stream, this.#options.grace))
      void this.#snapshots.show(stream, channel)
    }
    this.#speak()
  }

  /**
   * Ends what {@link track} began, before the stream closes. Without another stream of the client, it leaves at once.
   *
   * @throws TypeError for a wrong name.
   */
  untrack(stream: TrackedStream, channel: string): void {
    this.#channels.get(stream)?.delete(channel)
    this.#lose(placeOf(channelName(channel), stream.id), stream, 0)
  }

  /**
   * The members of a channel on all processes, as this process knows them.
   *
   * @throws TypeError for a wrong name.
   */
  members(channel: string): Member[] {
    return Array.from(this.#roster.members(channelName(channel)), memberOf)
  }

  /**
   * Stops, and publishes a goodbye: the members of this process stay for `grace` milliseconds, so that they can move
   * to another process, and then leave. Closing the pool does the same. Never rejects: if the goodbye cannot be
   * stored, the other processes declare this one dead after `lease`.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer)
    this.#outbox.length = 0
    // Messages must be stored in the order of their numbers, and the goodbye is the last.
    await this.#publishing
    this.#isClosed = true
    for (const { timer } of this.#tracked.values()) clearTimeout(timer)
    for (const timer of this.#farewells.values()) clearTimeout(timer)
    if (!this.#isSynced || this.#hub.messages.isAlone) return
    const bye = { says: 'bye', told: this.#told, grace: this.#options.grace } as const
    const message: Message = { ...bye, from: this.#self, n: ++this.#n }
    await this.#hub.messages.publish(TOPIC, message).catch(() => {})
  }

  #lose(place: string, stream: TrackedStream, grace: number): void {
    const tracked = this.#tracked.get(place)
    if (!tracked?.streams.delete(stream) || tracked.streams.size > 0 || this.#isClosed) return
    const leave = () => {
      this.#tracked.delete(place)
      this.#unsaid.add(place)
      this.#speak()
    }
    if (grace === 0) leave()
    else tracked.timer = setTimeout(leave, grace).unref()
  }

  // Speaking

  #tick(): void {
    this.#ticks += 1
    if (!this.#isSynced) this.#say({ says: 'hello' })
    else if (this.#ticks % ALIVE_TICKS === 0) this.#say({ says: 'alive', told: this.#told })
    this.#speak()
    void this.#tell()
  }

  /** Queues a message. A tick's is dropped while the log is slow or down: one is enough. */
  #say(saying: Saying): void {
    const isQueued = this.#outbox.some(({ says }) => says === saying.says)
    const isPeriodic = saying.says === 'hello' || saying.says === 'alive'
    if (!(isPeriodic && isQueued)) this.#outbox.push(saying)
    this.#speak()
  }

  /** Publishes one message at a time, so that they are stored in the order of their numbers. */
  #speak(): void {
    if (this.#publishing !== undefined || this.#closing !== undefined) return
    this.#publishing = this.#publishAll()
  }

  async #publishAll(): Promise<void> {
    try {
      // What was tracked in one turn goes into one message.
      await Promise.resolve()
      while (this.#closing === undefined) {
        const saying = this.#outbox.shift() ?? this.#news()
        if (saying === undefined) return
        const message = { ...saying, from: this.#self, n: ++this.#n } as Message
        this.#publishedAt.set(message.n, performance.now())
        await this.#hub.messages.publish(TOPIC, message)
        if (this.#hub.messages.isAlone) this.#receive(message)
      }
    } catch {
      // The next tick tries again, with all of it: what was stored has no effect when it is repeated.
      this.#sayAll()
    } finally {
      this.#publishing = undefined
    }
  }

  /** Compares all that this process tracks with the roster again, whatever it has said before. */
  #sayAll(): void {
    this.#said.clear()
    for (const place of this.#tracked.keys()) this.#unsaid.add(place)
    for (const place of this.#roster.membersOf(this.#self).keys()) this.#unsaid.add(place)
  }

  /** What the log does not say of this process yet, or no longer should. */
  #news(): Saying | undefined {
    if (!this.#isSynced) return undefined
    let left = PART_LENGTH
    const set: [string, string, string][] = []
    const unset: [string, string][] = []
    const published = this.#roster.membersOf(this.#self)
    for (const place of this.#unsaid) {
      if (set.length === BATCH || unset.length === BATCH || left <= 0) break
      this.#unsaid.delete(place)
      const tracked = this.#tracked.get(place)
      const { channel, id } = tracked ?? published.get(place) ?? {}
      // It has left before the log said that it is there.
      if (channel === undefined || id === undefined) continue
      const state = tracked?.state ?? ''
      if (this.#said.get(place) === state) continue
      this.#said.set(place, state)
      left -= place.length + state.length
      if (tracked === undefined) unset.push([channel, id])
      else set.push([channel, id, state])
    }
    if (set.length + unset.length > 0) return { says: 'change', set, unset }
    const previous = this.#previous
    this.#previous = undefined
    // Only now: its members are those of its successor by now, so none of them leaves in between.
    return previous && { says: 'dead', who: previous.name, seen: previous.seen }
  }

  // Listening

  #receive(message: Message): void {
    const { from, says } = message
    if (from === this.#self) this.#returned(message)
    if (says === 'found') this.#founded(message)
    else if (this.#isSynced) this.#apply(message)
    else this.#keep(message)
  }

  #returned({ n }: Message): void {
    this.#heardAt = this.#publishedAt.get(n) ?? this.#heardAt
    for (const earlier of this.#publishedAt.keys()) {
      if (earlier > n) break
      this.#publishedAt.delete(earlier)
    }
  }

  /** While this process waits for the roster. */
  #keep(message: Message): void {
    const isOwn = message.from === this.#self
    if (message.says === 'state' && message.to === this.#self) {
      const asked = this.#buffer.findIndex(({ from, n }) => from === this.#self && n === message.at)
      if (asked === -1) return
      this.#unanswered = 0
      if (!this.#hasAll(message)) {
        this.#buffer.push(message)
        return
      }
      const since = this.#buffer.slice(asked + 1)
      this.#adopt(Roster.from(this.#parts.list))
      this.#parts.list = []
      for (const later of since) this.#apply(later)
      this.#apply(message)
      return
    }
    if (isOwn || this.#buffer.length > 0) this.#buffer.push(message)
    if (!isOwn) {
      // A process with a roster is there, and will answer, or be declared dead by another.
      if (message.says !== 'hello') this.#unanswered = 0
      return
    }
    this.#unanswered += 1
    if (this.#hub.messages.isAlone || this.#unanswered % UNANSWERED === 0)
      this.#say({ says: 'found' })
  }

  /** Keeps a part of the roster. Returns whether it was the last one and none is missing. */
  #hasAll({ from, at, index, part, isLast }: Extract<Message, { says: 'state' }>): boolean {
    const answer = `${from} ${at}`
    if (index === 0) this.#parts = { answer, list: [] }
    const { list } = this.#parts
    // The rest of an answer whose beginning was lost: the next question is answered in full.
    if (answer !== this.#parts.answer || index !== list.length) return false
    list.push(part)
    return isLast
  }

  /** The first process, or one that no other has answered, begins a roster of its own; the others follow. */
  #founded({ from, n }: Message): void {
    if (from !== this.#self) {
      this.#restart()
      return
    }
    if (this.#isSynced) return
    this.#mustReset = !this.#hub.messages.isAlone
    this.#adopt(Roster.foundedBy(from, n))
  }

  #adopt(roster: Roster): void {
    const before = this.#roster
    this.#roster = roster
    this.#isSynced = true
    this.#buffer = []
    this.#told = 0
    this.#silence.clear()
    for (const change of differences(before, roster)) this.#announce(change)
    for (const process of roster.processes) this.#farewell(process)
    this.#setReady()
    const streams = new Set<TrackedStream>()
    for (const tracked of this.#tracked.values()) {
      for (const stream of tracked.streams) streams.add(stream)
    }
    for (const stream of streams) this.#showAll(stream)
    this.#speak()
  }

  #apply(message: Message): void {
    const { from, n, says } = message
    const changes = this.#roster.apply(message)
    this.#silence.set(from, 0)
    if (says === 'hello' && this.#roster.teller === this.#self) {
      this.#answer(from, n)
    }
    for (const change of changes) this.#announce(change)
    if (this.#roster.lastOf(this.#self) === undefined) this.#restart()
    else if (says === 'alive' && from === this.#self) this.#listenForSilence()
    this.#farewell(from)
    void this.#tell()
    // A member that came back while its removal was under way, or the other way round.
    if (says === 'change' && from === this.#self) this.#settle(message)
  }

  /** Sends the roster to a process that asks for it. */
  #answer(to: string, at: number): void {
    // Until pages have been told to forget all, nobody else may continue with this roster: it would not tell them.
    if (this.#mustReset) return
    // A large roster takes longer than the time between two questions.
    if (this.#outbox.some(saying => saying.says === 'state' && saying.to === to)) return
    const parts = this.#roster.parts()
    for (const [index, part] of parts.entries()) {
      this.#say({ says: 'state', to, at, part, index, isLast: index === parts.length - 1 })
    }
  }

  /** Lets the members of a process that has closed leave when their time to move is over. */
  #farewell(process: string): void {
    const grace = this.#roster.graceOf(process)
    if (grace === undefined || this.#farewells.has(process)) return
    const timer = setTimeout(() => {
      this.#farewells.delete(process)
      const seen = this.#roster.lastOf(process)
      if (seen !== undefined && this.#isSynced) this.#say({ says: 'dead', who: process, seen })
    }, grace)
    this.#farewells.set(process, timer.unref())
  }

  #settle({ set, unset }: Extract<Message, { says: 'change' }>): void {
    for (const [channel, id] of set) this.#unsaid.add(placeOf(channel, id))
    for (const [channel, id] of unset) {
      const place = placeOf(channel, id)
      this.#unsaid.add(place)
      if (this.#said.get(place) === '') this.#said.delete(place)
    }
    if (set.length + unset.length > 0) this.#speak()
  }

  #listenForSilence(): void {
    for (const process of this.#roster.processes) {
      if (process === this.#self || this.#roster.graceOf(process) !== undefined) continue
      const beats = (this.#silence.get(process) ?? 0) + 1
      this.#silence.set(process, beats)
      const seen = this.#roster.lastOf(process)
      if (beats > SILENT_BEATS && seen !== undefined)
        this.#say({ says: 'dead', who: process, seen })
    }
  }

  /** Asks for the roster, under a new name: after a start, a loss of messages, or when it was declared dead. */
  #restart(): void {
    const seen = this.#roster.lastOf(this.#self)
    if (this.#isSynced && seen !== undefined) this.#previous = { name: this.#self, seen: this.#n }
    this.#self = this.#nonce()
    this.#n = 0
    this.#isSynced = false
    this.#buffer = []
    this.#unanswered = 0
    this.#mustReset = false
    this.#sayAll()
    this.#publishedAt.clear()
    this.#outbox.length = 0
    this.#say({ says: 'hello' })
  }

  // Telling pages

  async #tell(): Promise<void> {
    if (this.#isTelling) return
    this.#isTelling = true
    try {
      while (this.#mayTell()) {
        if (this.#mustReset) {
          await this.#hub.broadcast({ event: 'presence.reset', data: null, key: 'presence.reset' })
          this.#mustReset = false
          continue
        }
        const { pending } = this.#roster
        // Their numbers have no gaps. A search would make a burst of n changes cost n² steps.
        const next = pending[Math.max(0, this.#told + 1 - (pending[0]?.number ?? 0))]
        if (next === undefined) return
        if (this.#roster.isSuperseded(next)) {
          this.#told = next.number
          continue
        }
        const { type, channel, id, state } = next.change
        const data = { channel, id, state: JSON.parse(state) as unknown }
        const event = { event: `presence.${type}`, data, key: keyOf(id) }
        const roster = this.#roster
        await this.#hub.sendToChannelOnce(next.nonce, channel, event)
        if (roster === this.#roster) this.#told = next.number
      }
    } catch {
      // The pool has emitted the error; the next tick tries again.
    } finally {
      this.#isTelling = false
    }
  }

  /** A process that slept must first learn whether it is still the teller. */
  #mayTell(): boolean {
    if (this.#isClosed || this.#hub.isClosed || !this.#isSynced) return false
    if (this.#roster.teller !== this.#self) return false
    return this.#hub.messages.isAlone || performance.now() - this.#heardAt < this.#options.lease
  }

  // Showing the members to a page

  #showAll(stream: TrackedStream): void {
    for (const channel of this.#channels.get(stream) ?? [])
      void this.#snapshots.show(stream, channel)
  }

  /** A listener that throws must not keep this process from applying the message. */
  #announce({ type, channel, id, state }: Change): void {
    this.#snapshots.changed(channel)
    try {
      this.emit(type, channel, memberOf({ id, state }))
    } catch (error) {
      this.#hub.error(error)
    }
  }
}

/** Apart from the keys of the app, and no longer than a key may be. */
function keyOf(id: string): string {
  const isShort = id.length <= 200
  return `presence ${isShort ? id : createHash('sha256').update(id).digest('base64url')}`
}

function memberOf({ id, state }: { id: string; state: string }): Member {
  return { id, state: JSON.parse(state) as unknown }
}

function* differences(before: Roster, after: Roster): Iterable<Change> {
  for (const channel of new Set([...before.channels(), ...after.channels()])) {
    const old = new Map(Array.from(before.members(channel), ({ id, state }) => [id, state]))
    for (const { id, state } of after.members(channel)) {
      const was = old.get(id)
      old.delete(id)
      if (was !== state) yield { type: was === undefined ? 'join' : 'update', channel, id, state }
    }
    for (const [id, state] of old) yield { type: 'leave', channel, id, state }
  }
}

/** @throws TypeError for what is not JSON, or too long. */
function stateText(state: unknown): string {
  const text: string | undefined = JSON.stringify(state)
  if (text === undefined) throw new TypeError(`track(): state must be JSON; got ${got(state)}`)
  if (text.length <= MAX_STATE) return text
  throw new TypeError(
    `track(): state must be JSON of at most ${MAX_STATE} characters; got ${text.length}`,
  )
}

function isMessage(body: unknown): body is Message {
  const { from, n, says } = (body ?? {}) as Record<string, unknown>
  return typeof from === 'string' && Number.isInteger(n) && typeof says === 'string'
}
