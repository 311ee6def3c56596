/**
 * The newest entries of the log, kept in this process: found by id for those who resume, and by
 * target for those who deliver.
 *
 * Each entry gets a position, a number that only grows. A stream's cursor is the position up to
 * which it has been served, so "what waits for this stream" is: the entries of its targets with a
 * position beyond its cursor. Nothing else is remembered for a stream.
 */
import {
  type Entry,
  type EventLog,
  formatTarget,
  parseTarget,
  type TargetAddress,
} from '../log/log.js'
import { Batch, type Reader, Slot, slotBytes, Target } from './target.js'

/** Beyond so many the readers' cursors differ too much for sharing to be worth the memory. */
const MAX_SHARED_BATCHES = 32

/** A batch takes entries until it has this many bytes, so that one write stays a moderate one. */
const BATCH_BYTES = 256 * 1024

/** Ids of any engine look like this; anything else never reaches an engine. */
const ENTRY_ID = /^[0-9A-Za-z_-]{1,64}$/

export interface WindowOptions {
  readonly events: number
  readonly bytes: number
  readonly compare: EventLog['compare']
  /** A target has a new entry. */
  readonly onAppend: (target: Target) => void
  /** An entry of this target is about to be evicted: the last chance to deliver it. */
  readonly onEvict: (target: Target) => void
}

export class Window {
  readonly #options: WindowOptions
  readonly #targets = new Map<string, Target>()
  /** Always here: whoever connects later is a member of this very target. */
  readonly everyone = this.target(formatTarget({ kind: 'everyone', name: '' }))
  /** Oldest first. Those before `#head` have been evicted and await the next clean-up. */
  #slots: (Slot | undefined)[] = []
  #head = 0
  #bytes = 0
  #marks = 0
  #tail = 0
  /** How far in the log this window has got; not always an entry that it keeps. */
  #reached: string | undefined
  /** The entry that is being put in, and those that came meanwhile. */
  readonly #incoming: Entry[] = []

  constructor(options: WindowOptions) {
    this.#options = options
  }

  /** The position of the newest entry, evicted or not; 0 before the first. */
  get tail(): number {
    return this.#tail
  }

  /** The newest entry's id; undefined while the log is empty. */
  get tailId(): string | undefined {
    return this.#slots.at(-1)?.id
  }

  /** A cursor at which everything that is kept still waits. */
  get start(): number {
    return this.#tail - this.#length
  }

  get size(): { events: number; bytes: number } {
    return { events: this.#length - this.#marks, bytes: this.#bytes }
  }

  get #length(): number {
    return this.#slots.length - this.#head
  }

  append(entry: Entry): void {
    this.#incoming.push(entry)
    // Making room delivers, and a listener that sends meanwhile comes back here: its entry waits,
    // or both would take the same position.
    if (this.#incoming.length > 1) return
    try {
      for (const next of this.#incoming) this.#insert(next)
    } finally {
      this.#incoming.length = 0
    }
  }

  #insert(entry: Entry): void {
    this.#makeRoomFor(slotBytes(entry))
    // Only now, as the target may have been forgotten together with its last entry.
    const address = parseTarget(entry.target)
    const removal = address?.kind === 'remove'
    // A mark belongs to nobody, so its target is not kept where anybody would find it.
    const target = address ? this.target(addressOfMembers(address)) : new Target('')
    const slot = new Slot(this.#tail + 1, entry, target, removal, address?.except)
    this.#tail = slot.position
    this.#reached = entry.id
    this.#slots.push(slot)
    this.#bytes += slot.bytes
    if (address === undefined) this.#marks += 1
    target.append(slot)
    if (removal) target.setRemoval(slot)
    this.#options.onAppend(target)
    target.wake()
  }

  /** An entry of the log that has no place here: nobody receives it or resumes from it. */
  pass(id: string): void {
    this.#reached = id
  }

  /** Forgets all entries; members stay, and positions go on growing. */
  clear(): void {
    this.#slots = []
    this.#head = 0
    this.#bytes = 0
    this.#marks = 0
    this.#reached = undefined
    for (const target of this.#targets.values()) {
      target.first = target.last = target.newestByKey = target.batches = undefined
      target.evicted = 0
      this.release(target)
    }
  }

  /** The target of that name, made when there is none. */
  target(name: string): Target {
    let target = this.#targets.get(name)
    if (target === undefined) {
      target = new Target(name)
      this.#targets.set(name, target)
    }
    return target
  }

  /** Forgets a target that has neither members nor entries left. */
  release(target: Target): void {
    if (target !== this.everyone && target.isForgettable) this.#targets.delete(target.name)
  }

  /** The position of the entry with exactly this id. */
  find(id: string): number | undefined {
    const { compare } = this.#options
    if (this.tailId === undefined || !ENTRY_ID.test(id)) return undefined
    let low = this.#head
    let high = this.#slots.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const slot = this.#slots[middle] as Slot
      const order = compare(slot.id, id)
      if (Number.isNaN(order)) return undefined
      // Equal in order is not enough: a forged or foreign id may differ in what order ignores.
      if (order === 0) return slot.id === id ? slot.position : undefined
      if (order < 0) low = middle + 1
      else high = middle - 1
    }
    return undefined
  }

  /** Whether an id of this log lies before all that is kept. */
  isTrimmed(id: string): boolean {
    const oldest = this.#slots[this.#head]
    return oldest !== undefined && ENTRY_ID.test(id) && this.#options.compare(id, oldest.id) < 0
  }

  /** The newest entry that removes the client of this target, if it is kept. */
  removalIn(target: Target): Slot | undefined {
    let slot = target.last
    while (slot !== undefined && !slot.removal) slot = slot.previous
    return slot
  }

  /** Whether the window has got as far as this entry of the log. */
  hasReached(id: string | null): boolean {
    if (id === null) return true
    return this.#reached !== undefined && this.#options.compare(this.#reached, id) >= 0
  }

  /** The id at a position; undefined when it is no longer, or not yet, in the window. */
  idAt(position: number): string | undefined {
    return this.#slots[this.#head + position - this.start - 1]?.id
  }

  /** Whether an entry for this reader was evicted before it was delivered. */
  hasLost(reader: Reader): boolean {
    // Nothing beyond its cursor was evicted at all: no need to look at each target.
    if (reader.cursor >= this.start) return false
    for (const target of reader.targets) {
      if (target.evicted > reader.cursor && target.evicted > joinedAt(reader, target)) return true
    }
    return false
  }

  /**
   * What waits for a reader up to a position: undefined when nothing does, otherwise a batch, which
   * may be empty (all of it superseded, or meant for others).
   */
  next(reader: Reader, upTo: number): Batch | undefined {
    let waiting: Target | undefined
    let several = false
    for (const target of reader.targets) {
      if (target.last === undefined || target.last.position <= reader.cursor) continue
      several = waiting !== undefined
      waiting = target
      // The one entry since its cursor is this target's, so none is another's. Spared looks are
      // spared cache misses, of which each costs a tenth of a delivery to ten thousand streams.
      if (reader.cursor === this.#tail - 1) break
    }
    if (waiting === undefined) return undefined
    const isLikeAllOthers =
      !several &&
      upTo === this.#tail &&
      reader.joinedAt === undefined &&
      reader.cursor >= reader.openedAt
    if (isLikeAllOthers) {
      const batch = this.#sharedBatch(waiting, reader.cursor)
      if (!batch.excepts.has(reader.id)) return batch
    }
    return this.#batchFor(reader, upTo)
  }

  /** The batch for all members of a target with this cursor, but for those whom an entry excepts. */
  #sharedBatch(target: Target, cursor: number): Batch {
    const first = target.firstAfter(cursor) as Slot
    const shared = target.batches?.get(first)
    if (shared !== undefined) return shared
    const slots: Slot[] = []
    const excepts: string[] = []
    for (let slot: Slot | undefined = first; slot !== undefined; slot = slot.next) {
      if (slot.except !== undefined) excepts.push(slot.except)
      // Whoever may not see the newer one is among the excepts, so it is superseded for the rest.
      if (slot.newer === undefined) slots.push(slot)
    }
    const batch = batchOf(slots, this.#tail)
    for (const clientId of excepts) batch.excepts.add(clientId)
    // Nobody to share it with: kept, it would outlive its use by as long as the client is quiet.
    if (target.size <= 1) return batch
    if (target.batches === undefined || target.batches.size >= MAX_SHARED_BATCHES) {
      target.batches = new Map()
    }
    target.batches.set(first, batch)
    return batch
  }

  /** The batch for one reader, merged from all its targets. */
  #batchFor(reader: Reader, upTo: number): Batch {
    const slots: Slot[] = []
    for (const target of reader.targets) {
      const from = Math.max(reader.cursor, joinedAt(reader, target))
      let newestUnkeyedSeen = false
      for (let slot = target.last; slot && slot.position > from; slot = slot.previous) {
        if (slot.position > upTo || slot.except === reader.id) continue
        if (slot.isSupersededFor(reader.id)) continue
        const isHistory = slot.position <= reader.openedAt
        if (isHistory && slot.removal) continue
        if (isHistory && reader.latestOnly && slot.key === undefined) {
          if (newestUnkeyedSeen) continue
          newestUnkeyedSeen = true
        }
        slots.push(slot)
      }
    }
    slots.sort((a, b) => a.position - b.position)
    return batchOf(slots, upTo)
  }

  #makeRoomFor(added: number): void {
    const { events, bytes } = this.#options
    while (this.#length > 0 && (this.#length >= events || this.#bytes + added > bytes)) {
      this.#evictOldest()
    }
  }

  #evictOldest(): void {
    const oldest = this.#slots[this.#head] as Slot
    this.#options.onEvict(oldest.target)
    oldest.target.evictFirst()
    this.#slots[this.#head] = undefined
    this.#head += 1
    this.#bytes -= oldest.bytes
    if (oldest.target.name === '') this.#marks -= 1
    else this.release(oldest.target)
    // Half of the array empty: moving the rest now costs each entry one move on average.
    if (this.#head > 64 && this.#head * 2 > this.#slots.length) {
      this.#slots = this.#slots.slice(this.#head)
      this.#head = 0
    }
  }
}

/** A removal is in its client's target, and an exception does not make another target. */
function addressOfMembers({ kind, name }: TargetAddress): string {
  return formatTarget({ kind: kind === 'remove' ? 'client' : kind, name })
}

function joinedAt(reader: Reader, target: Target): number {
  return reader.joinedAt?.get(target) ?? 0
}

/** Takes slots until a removal or the size limit; the position says how far that gets the reader. */
function batchOf(slots: readonly Slot[], upTo: number): Batch {
  let bytes = 0
  for (const [index, slot] of slots.entries()) {
    if (slot.removal) return new Batch(slots.slice(0, index), slot.position, slot)
    bytes += slot.bytes
    if (bytes >= BATCH_BYTES && index < slots.length - 1) {
      return new Batch(slots.slice(0, index + 1), slot.position)
    }
  }
  return new Batch(slots, upTo)
}
