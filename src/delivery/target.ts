/**
 * A target is what an entry can be sent to: a client, a channel or everyone. It holds its members and, as
 * a linked list, its entries in the window. A batch is what some of its members get as one write.
 */
import { type Entry, idsOf, type TargetAddress } from '../log/log.js'
import { Chunk } from '../wire/event.js'
import { entryFrame, ID_LINE_BYTES } from '../wire/frames.js'

/** What a target needs of its readers. It is a {@link Reader}, which knows its targets in turn. */
export interface Member {
  /** This entry removes the reader's client, or all members of a channel that it has joined. */
  endWith(slot: Slot): void
}

/** An entry in the window. */
export class Slot {
  readonly position: number
  readonly id: string
  readonly target: Target
  readonly frame: string
  readonly bytes: number
  readonly key: string | undefined
  /** The ids of clients that are left out. */
  readonly except: Except
  /** When it expires, in milliseconds since the epoch; undefined for never. */
  readonly until: number | undefined
  /** It is not replayed: only readers that were connected when it arrived get it. */
  readonly isVolatile: boolean
  /** It ends the streams of the client or of the channel and is not delivered itself. */
  readonly removal: boolean
  /** When this process got it, by `performance.now()`; 0 if the window has no limit of age. */
  readonly arrivedAt: number
  /** One for each channel, this one included, where the entry was sent to several. */
  twins: readonly Slot[] | undefined
  /** Neighbours in the same target. */
  previous: Slot | undefined
  next: Slot | undefined
  /** The next entry with the same key and target, which supersedes this one. */
  newer: Slot | undefined

  constructor(
    position: number,
    entry: Entry,
    target: Target,
    removal: boolean,
    address?: TargetAddress,
    arrivedAt = 0,
  ) {
    this.position = position
    this.id = entry.id
    this.target = target
    this.frame = entry.frame
    this.bytes = slotBytes(entry)
    this.key = entry.key
    this.except = address?.except
    this.until = address?.until
    this.isVolatile = address?.volatile === true
    this.removal = removal
    this.arrivedAt = arrivedAt
    this.twins = undefined
  }

  /** Whether it leaves this client out. */
  excepts(clientId: string): boolean {
    const { except } = this
    return except === clientId || (typeof except === 'object' && except.includes(clientId))
  }

  get hasExpired(): boolean {
    return this.until !== undefined && this.until <= Date.now()
  }

  /** Whether a newer entry with the same key, up to a position, is also meant for this client. */
  isSupersededFor(clientId: string, upTo = Number.POSITIVE_INFINITY): boolean {
    for (let newer = this.newer; newer !== undefined; newer = newer.newer) {
      if (newer.position > upTo) return false
      if (!newer.excepts(clientId)) return true
    }
    return false
  }
}

/** The bytes that an entry takes on the wire. */
export function slotBytes({ frame, id }: Entry): number {
  return Buffer.byteLength(frame) + id.length + ID_LINE_BYTES
}

/** The bytes of an entry's key and exceptions, which the window keeps but which do not go over the wire. */
export function hiddenBytes(key: string | undefined, except: Except): number {
  let bytes = key === undefined ? 0 : Buffer.byteLength(key)
  if (except !== undefined) for (const id of idsOf(except)) bytes += Buffer.byteLength(id)
  return bytes
}

/** A client, a channel or everyone: its members on this process and its entries in the window. */
export class Target {
  /** As in the log: `*`, `@client` or `#channel`. */
  readonly name: string
  /** Most clients have one stream; a Set for it would take as much memory as the stream itself. */
  #members: Member | Set<Member> | undefined
  /** Readers that are not streams: long polls and iterations. They are not counted as members. */
  #subscribers: Set<Member> | undefined
  first: Slot | undefined
  last: Slot | undefined
  /** The newest removal among its entries. */
  lastRemoval: Slot | undefined
  readonly #evicted = new Evicted()
  /** The newest entry of each key; most targets never see a key. */
  newestByKey: Map<string, Slot> | undefined
  /** Batches up to `last`, by their first entry: members with the same cursor share them. */
  batches: Map<Slot, Batch> | undefined

  constructor(name: string) {
    this.name = name
  }

  /** The number of members. */
  get size(): number {
    if (this.#members instanceof Set) return this.#members.size
    return this.#members === undefined ? 0 : 1
  }

  /** Oldest first. The iterator stays valid while members come and go. */
  members(): IterableIterator<Member> {
    if (this.#members instanceof Set) return this.#members.values()
    return (this.#members === undefined ? [] : [this.#members]).values()
  }

  subscribers(): Iterable<Member> {
    return this.#subscribers ?? []
  }

  has(member: Member): boolean {
    return this.#members instanceof Set ? this.#members.has(member) : this.#members === member
  }

  add(member: Member): void {
    if (this.#members === undefined) this.#members = member
    else if (this.#members instanceof Set) this.#members.add(member)
    else if (this.#members !== member) this.#members = new Set([this.#members, member])
  }

  delete(member: Member): void {
    if (this.#members instanceof Set) this.#members.delete(member)
    else if (this.#members === member) this.#members = undefined
  }

  subscribe(subscriber: Member): void {
    this.#subscribers ??= new Set()
    this.#subscribers.add(subscriber)
  }

  unsubscribe(subscriber: Member): void {
    this.#subscribers?.delete(subscriber)
    if (this.#subscribers?.size === 0) this.#subscribers = undefined
  }

  /** Whether it has a reader. */
  get isRead(): boolean {
    return this.size > 0 || this.#subscribers !== undefined
  }

  /** Whether it can be dropped: it has no reader and no entry. */
  get isForgettable(): boolean {
    return this.first === undefined && !this.isRead
  }

  /** Gives a removal to all readers: it may be evicted before a slow one gets to it. */
  setRemoval(slot: Slot): void {
    for (const member of this.members()) member.endWith(slot)
    for (const subscriber of this.subscribers()) subscriber.endWith(slot)
  }

  append(slot: Slot): void {
    slot.previous = this.last
    if (this.last) this.last.next = slot
    else this.first = slot
    this.last = slot
    this.batches = undefined
    if (slot.removal) this.lastRemoval = slot
    if (slot.key === undefined) return
    this.newestByKey ??= new Map()
    const older = this.newestByKey.get(slot.key)
    if (older) older.newer = slot
    this.newestByKey.set(slot.key, slot)
  }

  /** Drops the oldest entry. */
  evictFirst(): void {
    const slot = this.first as Slot
    this.first = slot.next
    // Otherwise each entry would keep all its predecessors from being collected.
    if (this.first) this.first.previous = undefined
    else this.last = undefined
    // Otherwise a removal that a slow reader keeps would also keep all entries after it.
    slot.next = undefined
    this.batches?.delete(slot)
    if (this.lastRemoval === slot) this.lastRemoval = undefined
    this.#evicted.note(slot)
    if (slot.key !== undefined && this.newestByKey?.get(slot.key) === slot) {
      this.newestByKey.delete(slot.key)
    }
  }

  /** The position of the newest entry for this client that was evicted; 0 when there is none. */
  evictedFor(clientId: string): number {
    return this.#evicted.positionFor(clientId)
  }

  /** The position of the newest entry that was evicted, whether it is a loss or not. */
  get newestEvicted(): number {
    return this.#evicted.newest
  }

  /** Forgets all entries; members stay. */
  clear(): void {
    this.first = this.last = this.lastRemoval = this.newestByKey = this.batches = undefined
    this.#evicted.clear()
  }

  /** The oldest entry beyond a position. Searched from the end, because most readers are close to it. */
  firstAfter(position: number): Slot | undefined {
    let slot = this.last
    if (slot === undefined || slot.position <= position) return undefined
    while (slot.previous !== undefined && slot.previous.position > position) slot = slot.previous
    return slot
  }
}

/** One client that an entry leaves out, or several. */
type Except = TargetAddress['except']

/** More clients than this are not remembered one by one. */
const MAX_CLIENTS = 1000

/**
 * How far a target's entries were evicted, for each client: an entry that leaves a client out, or that
 * a newer one supersedes, is no loss to that client and must not give it a gap.
 */
class Evicted {
  /** The newest of all, superseded or not. */
  newest = 0
  /** The newest evicted entry that was not superseded, and the client that it leaves out. */
  #newestLoss = 0
  #except: string | undefined
  /** The newest evicted entry that does not leave that client out. */
  #newestForExcept = 0
  /** The same for each client, where the newest leaves out several. */
  #newestForExcepts: Map<string, number> | undefined
  /** Entries that were lost for one client only, because the newer one leaves just that client out. */
  #onlyFor: Map<string, number> | undefined

  note(slot: Slot): void {
    // What need not be delivered is no loss.
    if (slot.isVolatile || slot.hasExpired) return
    this.newest = slot.position
    if (slot.newer === undefined) {
      this.#add(slot.position, slot.except)
      return
    }
    const { except } = slot.newer
    if (except === undefined) return
    for (const clientId of idsOf(except)) {
      if (slot.excepts(clientId) || slot.isSupersededFor(clientId)) continue
      this.#onlyFor ??= new Map()
      this.#onlyFor.set(clientId, slot.position)
    }
    if (this.#onlyFor === undefined || this.#onlyFor.size <= MAX_CLIENTS) return
    // Too many to remember. An unnecessary gap is better than a loss without one.
    this.#onlyFor = undefined
    this.#add(slot.position, undefined)
  }

  positionFor(clientId: string): number {
    return Math.max(this.#newestFor(clientId), this.#onlyFor?.get(clientId) ?? 0)
  }

  clear(): void {
    this.newest = this.#newestLoss = this.#newestForExcept = 0
    this.#except = this.#onlyFor = this.#newestForExcepts = undefined
  }

  /** The newest entry that was not superseded and does not leave this client out. */
  #newestFor(clientId: string): number {
    if (clientId === this.#except) return this.#newestForExcept
    return this.#newestForExcepts?.get(clientId) ?? this.#newestLoss
  }

  #add(position: number, except: Except): void {
    if (typeof except === 'object') {
      this.#newestForExcepts = new Map(except.map(id => [id, this.#newestFor(id)]))
      this.#except = undefined
    } else {
      // A client that the previous entry did not leave out has lost that one.
      if (except !== undefined) this.#newestForExcept = this.#newestFor(except)
      this.#except = except
      this.#newestForExcepts = undefined
    }
    this.#newestLoss = position
  }
}

/** Entries that go to a reader as one write. */
export class Batch {
  readonly slots: readonly Slot[]
  /** The reader's cursor once it has the batch. */
  readonly position: number
  /** The entry that ends the reader's stream, after the others. */
  readonly removal: Slot | undefined
  /** The bytes of its frames, ids included. */
  readonly bytes: number
  /** Clients that some entry leaves out, which therefore cannot share this batch. */
  readonly excepts = new Set<string>()
  /** When the first of its entries expires, so that it cannot be shared any more; undefined for never. */
  until: number | undefined
  /** Entries before this position are history to the reader, and their ids say so by a suffix. */
  #historyEnd = 0
  #suffix = ''
  #withIds: Chunk | undefined
  #withoutIds: Chunk | undefined

  constructor(slots: readonly Slot[], position: number, removal?: Slot) {
    this.slots = slots
    this.position = position
    this.removal = removal
    this.bytes = slots.reduce((sum, slot) => sum + slot.bytes, 0)
  }

  /** Marks the entries before a position as history; only for a batch that is not shared. */
  markHistory(end: number, suffix: string): this {
    this.#historyEnd = end
    this.#suffix = suffix
    return this
  }

  /** The id of one of its entries, to come back with. */
  idOf({ id, position }: Slot): string {
    return position < this.#historyEnd ? id + this.#suffix : id
  }

  /** Ids are left out for streams with `resume: false`, whose ids are the app's own. */
  chunk(withIds: boolean): Chunk {
    if (withIds) {
      this.#withIds ??= new Chunk(
        this.slots.map(slot => entryFrame(this.idOf(slot), slot.frame)).join(''),
      )
      return this.#withIds
    }
    this.#withoutIds ??= new Chunk(this.slots.map(({ frame }) => frame).join(''))
    return this.#withoutIds
  }
}
