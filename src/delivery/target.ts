/**
 * Whom an entry can be for, and what waits there. A target holds its members and, as a linked list,
 * its entries in the window; a batch is what some of its members get as one write.
 */

import type { Entry } from '../log/log.js'
import { Chunk } from '../wire/event.js'

/** What the window needs to know of a stream in order to tell what waits for it. */
export interface Reader {
  /** The client's id, which `except` names. */
  readonly id: string
  /** The position up to which it has been served. */
  readonly cursor: number
  /** Everyone, the client and each channel that it has joined. */
  readonly targets: readonly Target[]
  /** Positions at which it joined channels, kept only while its cursor is behind them. */
  readonly joinedAt: ReadonlyMap<Target, number> | undefined
  /**
   * Where it opened, when it brought no cursor. What lies before is history to it: removals of the
   * same id do not concern it, and with `latestOnly` neither does all but the newest.
   */
  readonly openedAt: number
  readonly latestOnly: boolean
  /** The entry that removes its client: kept here, lest it be evicted before a slow reader gets there. */
  removal: Slot | undefined
}

/** A reader that nobody writes to, and that wants to know when an entry comes. */
export interface Watcher extends Reader {
  wake(): void
}

/** An entry in the window. */
export class Slot {
  readonly position: number
  readonly id: string
  readonly target: Target
  readonly frame: string
  readonly bytes: number
  readonly key: string | undefined
  readonly except: string | undefined
  /** Ends the client's streams instead of being shown to them. */
  readonly removal: boolean
  /** Neighbours in the same target. */
  previous: Slot | undefined
  next: Slot | undefined
  /** The next entry with the same key and target, which supersedes this one. */
  newer: Slot | undefined

  constructor(position: number, entry: Entry, target: Target, removal: boolean, except?: string) {
    this.position = position
    this.id = entry.id
    this.target = target
    this.frame = entry.frame
    this.bytes = slotBytes(entry)
    this.key = entry.key
    this.except = except
    this.removal = removal
  }

  /** Whether a newer entry with the same key waits too, one that is meant for this client. */
  isSupersededFor(clientId: string): boolean {
    for (let newer = this.newer; newer !== undefined; newer = newer.newer) {
      if (newer.except !== clientId) return true
    }
    return false
  }
}

/** What an entry takes on the wire, and so counts in the window. */
export function slotBytes({ frame, id }: Entry): number {
  return Buffer.byteLength(frame) + id.length + 'id: \n'.length
}

/** Whom an entry can be for: a client, a channel or everyone; its members and its entries. */
export class Target {
  /** As in the log: `*`, `@client` or `#channel`. */
  readonly name: string
  /** Most clients have one stream, for which a Set would take as much memory as the stream itself. */
  #members: Reader | Set<Reader> | undefined
  first: Slot | undefined
  last: Slot | undefined
  /** The position of the newest entry that was evicted: whoever is behind it has missed something. */
  evicted = 0
  /** The newest entry of each key; most targets never see one. */
  newestByKey: Map<string, Slot> | undefined
  #watchers: Set<Watcher> | undefined
  /** Batches up to `last`, by their first entry: members with the same cursor share them. */
  batches: Map<Slot, Batch> | undefined

  constructor(name: string) {
    this.name = name
  }

  /** How many members it has. */
  get size(): number {
    if (this.#members instanceof Set) return this.#members.size
    return this.#members === undefined ? 0 : 1
  }

  /** Oldest first; right also while members come and go. */
  members(): IterableIterator<Reader> {
    if (this.#members instanceof Set) return this.#members.values()
    return (this.#members === undefined ? [] : [this.#members]).values()
  }

  has(reader: Reader): boolean {
    return this.#members instanceof Set ? this.#members.has(reader) : this.#members === reader
  }

  add(reader: Reader): void {
    if (this.#members === undefined) this.#members = reader
    else if (this.#members instanceof Set) this.#members.add(reader)
    else this.#members = new Set([this.#members, reader])
  }

  /** False when it was no member. */
  delete(reader: Reader): boolean {
    if (this.#members instanceof Set) return this.#members.delete(reader)
    if (this.#members !== reader) return false
    this.#members = undefined
    return true
  }

  watch(watcher: Watcher): void {
    this.#watchers ??= new Set()
    this.#watchers.add(watcher)
  }

  unwatch(watcher: Watcher): void {
    this.#watchers?.delete(watcher)
    if (this.#watchers?.size === 0) this.#watchers = undefined
  }

  /** Whether nobody would miss it. */
  get isForgettable(): boolean {
    return this.size === 0 && this.first === undefined && this.#watchers === undefined
  }

  /** Keeps a removal with all whom it concerns, lest it be evicted before a slow one gets there. */
  setRemoval(slot: Slot): void {
    for (const member of this.members()) member.removal = slot
    for (const watcher of this.#watchers ?? []) watcher.removal = slot
  }

  /** Tells those who wait for entries. */
  wake(): void {
    for (const watcher of this.#watchers ?? []) watcher.wake()
  }

  append(slot: Slot): void {
    slot.previous = this.last
    if (this.last) this.last.next = slot
    else this.first = slot
    this.last = slot
    this.batches = undefined
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
    // Without this each entry would keep all its predecessors from being collected.
    if (this.first) this.first.previous = undefined
    else this.last = undefined
    // And with this one that a slow reader keeps, a removal, all that came after it.
    slot.next = undefined
    this.batches?.delete(slot)
    // An entry that a newer one supersedes is no loss to those who are behind.
    if (slot.newer === undefined || slot.newer.except !== undefined) this.evicted = slot.position
    if (slot.key !== undefined && this.newestByKey?.get(slot.key) === slot) {
      this.newestByKey.delete(slot.key)
    }
  }

  /** The oldest entry beyond a position: found from the end, since most readers are close to it. */
  firstAfter(position: number): Slot | undefined {
    let slot = this.last
    if (slot === undefined || slot.position <= position) return undefined
    while (slot.previous !== undefined && slot.previous.position > position) slot = slot.previous
    return slot
  }
}

/** Entries that go to a stream as one write. */
export class Batch {
  readonly slots: readonly Slot[]
  /** The reader's cursor once it has been served. */
  readonly position: number
  /** The entry that ends the reader's stream, after the others. */
  readonly removal: Slot | undefined
  /** What its frames take, ids included. */
  readonly bytes: number
  /** Clients that some entry leaves out, and who therefore cannot share this batch. */
  readonly excepts = new Set<string>()
  #withIds: Chunk | undefined
  #withoutIds: Chunk | undefined

  constructor(slots: readonly Slot[], position: number, removal?: Slot) {
    this.slots = slots
    this.position = position
    this.removal = removal
    this.bytes = slots.reduce((sum, slot) => sum + slot.bytes, 0)
  }

  /** Ids are left out for streams with `resume: false`, whose ids are the app's own. */
  chunk(withIds: boolean): Chunk {
    if (withIds) {
      this.#withIds ??= new Chunk(this.slots.map(({ id, frame }) => `id: ${id}\n${frame}`).join(''))
      return this.#withIds
    }
    this.#withoutIds ??= new Chunk(this.slots.map(({ frame }) => frame).join(''))
    return this.#withoutIds
  }
}
