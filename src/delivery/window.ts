/**
 * The newest entries of the log, kept in this process: found by id for clients that resume, and by
 * target for delivery.
 *
 * Each entry gets a position, a number that only grows. A reader's cursor is the position up to which
 * it has been served. It still has to get the entries of its targets beyond its cursor, and nothing else
 * is remembered for it.
 */
import {
  type Entry,
  type EventLog,
  formatTarget,
  furtherTargets,
  idsOf,
  parseTarget,
  type TargetAddress,
  targetOfMembers,
} from '../log/log.js'
import { historySuffix } from './history.js'
import { Batch, hiddenBytes, Slot, slotBytes, Target } from './target.js'

/** What the window must know of a reader to find the entries for it. */
export interface CursorState {
  /** The client's id, which `except` names. */
  readonly id: string
  /** The position up to which it has been served. */
  readonly cursor: number
  /** Everyone, the client and each channel that it has joined. */
  readonly targets: readonly Target[]
  /** Positions at which it joined channels, kept only while its cursor is behind them. */
  readonly joinedAt: ReadonlyMap<Target, number> | undefined
  /** Positions at which it left channels, kept only while its cursor is behind them. */
  readonly leftAt: ReadonlyMap<Target, number> | undefined
  /**
   * The tail when it opened, if it brought no cursor; else 0. Entries before that are history: removals
   * of the same id do not end it, and with `latestOnly` only the newest are shown.
   */
  readonly openedAt: number
  /** The tail when it began to read: volatile entries up to here are not replayed to it. */
  readonly liveAfter: number
  readonly latestOnly: boolean
}

/** Delivers what the window has: the pump. */
export interface WindowListener {
  /** The target has a new entry. */
  appended(target: Target): void
  /** The target's oldest entry is about to be evicted: the last chance to deliver it. */
  evicting(target: Target): void
}

/** With more batches, the readers' cursors differ too much for sharing to be worth the memory. */
const MAX_SHARED_BATCHES = 32

/** A batch takes entries until it has this many bytes, so that one write stays moderate. */
const BATCH_BYTES = 256 * 1024

/** What the ids of all engines look like. Anything else never reaches an engine. */
const ENTRY_ID = /^[0-9A-Za-z_-]{1,64}$/

export interface WindowOptions {
  readonly events: number
  readonly bytes: number
  /** In milliseconds. Default: no limit. */
  readonly age?: number | undefined
}

export class Window {
  readonly #log: Pick<EventLog, 'compare'>
  readonly #options: WindowOptions
  readonly #age: number
  #listener: WindowListener | undefined
  readonly #targets = new Map<string, Target>()
  /** Never forgotten: clients that connect later become members of this very target. */
  readonly everyone = this.target(formatTarget({ kind: 'everyone', name: '' }))
  /** Oldest first. Those before `#head` have been evicted and wait for the next clean-up. */
  #slots: (Slot | undefined)[] = []
  #head = 0
  #bytes = 0
  #marks = 0
  /** The position of the newest volatile entry; 0 before the first. */
  #newestVolatile = 0
  /** The position of the newest entry that became too old, and left nothing but its place; 0 for none. */
  #agedTo = 0
  /** Removals of channels among the entries. */
  #channelRemovals = 0
  #tail = 0
  /** Entries up to here came when the window was filled from a log that had lost its beginning; 0 for none. */
  #filledTo = 0
  /** How far in the log this window has got; not always the id of an entry that it keeps. */
  #reached: string | undefined
  /** The entry that is being inserted, and those that arrived meanwhile. */
  readonly #incoming: Entry[] = []
  #inserted = 0

  /** @param log decides how two ids compare. */
  constructor(log: Pick<EventLog, 'compare'>, options: WindowOptions) {
    this.#log = log
    this.#options = options
    this.#age = options.age ?? Number.POSITIVE_INFINITY
  }

  /** The pump, which needs the window and so is made after it. */
  set listener(listener: WindowListener) {
    this.#listener = listener
  }

  /** The position of the newest entry, evicted or not; 0 before the first. */
  get tail(): number {
    return this.#tail
  }

  /** The position of the newest entry that was appended, though others may still be put in before it. */
  get end(): number {
    return this.#tail + this.#incoming.length - this.#inserted
  }

  /** The newest entry's id; undefined while the log is empty. */
  get tailId(): string | undefined {
    return this.#slots.at(-1)?.id
  }

  /** The cursor of a reader that has read nothing of what is kept. */
  get start(): number {
    return Math.max(this.#base, this.#agedTo)
  }

  /** The position before the oldest entry. */
  get #base(): number {
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
    // Making room delivers, and a listener that sends then calls this method again. Its entry waits, or
    // both would take the same position.
    if (this.#incoming.length > 1) return
    try {
      for (const [index, next] of this.#incoming.entries()) {
        const address = parseTarget(next.target)
        this.prune()
        this.#makeRoomFor(bytesOf(next, address), this.#listener)
        const slot = this.#insert(next, address)
        this.#inserted = index + 1
        this.#listener?.appended(slot.target)
        if (slot.twins !== undefined) this.#twinsAppended(slot)
      }
    } finally {
      this.#incoming.length = 0
      this.#inserted = 0
    }
  }

  /** Inserts an entry without delivering it: no reader's cursor is in this window yet. */
  fill(entry: Entry): void {
    const address = parseTarget(entry.target)
    // A volatile entry is not replayed, and so leaves nothing but its place, for cursors.
    const kept = address?.volatile ? { ...entry, frame: '', key: undefined } : entry
    const keptAddress = address?.volatile ? undefined : address
    this.#makeRoomFor(bytesOf(kept, keptAddress))
    this.#insert(kept, keptAddress)
  }

  /** The window has been filled. @param isWhole whether the log still had its beginning. */
  filled(isWhole: boolean): void {
    this.#filledTo = isWhole ? 0 : this.#tail
  }

  /** To be called after making room, which may forget the target together with its last entry. */
  #insert(entry: Entry, address: TargetAddress | undefined): Slot {
    const removal = address?.kind === 'remove' || address?.kind === 'removeMembers'
    // A mark is for nobody, so its target is not kept among the others.
    const target = address ? this.target(targetOfMembers(address)) : new Target('')
    const slot = new Slot(this.#tail + 1, entry, target, removal, address, this.#now)
    this.#tail = slot.position
    this.#reached = entry.id
    this.#slots.push(slot)
    this.#bytes += slot.bytes + hiddenBytes(slot.key, slot.except)
    if (address === undefined) this.#marks += 1
    target.append(slot)
    if (removal) target.setRemoval(slot)
    if (address?.kind === 'removeMembers') this.#channelRemovals += 1
    if (slot.isVolatile) this.#newestVolatile = slot.position
    if (address?.also !== undefined) this.#insertTwins(slot, entry, address)
    return slot
  }

  /** Links an entry for several channels into each of them. It has one position, and its members get it once. */
  #insertTwins(slot: Slot, entry: Entry, address: TargetAddress): void {
    const others = furtherTargets(address).map(name => {
      const target = this.target(name)
      const twin = new Slot(slot.position, entry, target, false, address)
      target.append(twin)
      return twin
    })
    const twins = [slot, ...others]
    for (const twin of twins) twin.twins = twins
  }

  #twinsAppended({ twins = [] }: Slot): void {
    for (const { target } of twins.slice(1)) this.#listener?.appended(target)
  }

  /** Skips an entry of the log that has no place here: no reader receives it or resumes after it. */
  pass(id: string): void {
    this.#reached = id
  }

  /** Forgets all entries; members stay, and positions keep growing. */
  clear(): void {
    this.#slots = []
    this.#head = 0
    this.#bytes = 0
    this.#marks = 0
    this.#channelRemovals = 0
    this.#reached = undefined
    for (const target of this.#targets.values()) {
      target.clear()
      this.release(target)
    }
  }

  /** The target with this name; a new one if there is none. */
  target(name: string): Target {
    let target = this.#targets.get(name)
    if (target === undefined) {
      target = new Target(name)
      this.#targets.set(name, target)
    }
    return target
  }

  /** The number of members of the target of that name. */
  sizeOf(name: string): number {
    return this.#targets.get(name)?.size ?? 0
  }

  /** The number of targets with members whose name begins with a sigil, such as `#` for channels. */
  countTargets(sigil: string): number {
    let count = 0
    for (const { name, size } of this.#targets.values()) {
      if (size > 0 && name.startsWith(sigil)) count += 1
    }
    return count
  }

  /** Forgets a target that has neither readers nor entries left. */
  release(target: Target): void {
    if (target === this.everyone || !target.isForgettable) return
    // A reader that left it long ago may hold one that was forgotten and has a successor by now.
    if (this.#targets.get(target.name) === target) this.#targets.delete(target.name)
  }

  /** The position of the entry with exactly this id. */
  find(id: string): number | undefined {
    if (this.tailId === undefined || !ENTRY_ID.test(id)) return undefined
    let low = this.#head
    let high = this.#slots.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const slot = this.#slots[middle] as Slot
      const order = this.#log.compare(slot.id, id)
      if (Number.isNaN(order)) return undefined
      // Equal order is not enough: a forged or foreign id may differ in a part that order ignores.
      if (order === 0) return slot.id === id ? slot.position : undefined
      if (order < 0) low = middle + 1
      else high = middle - 1
    }
    return undefined
  }

  /** Whether an id of this log is older than everything that is kept. */
  isTrimmed(id: string): boolean {
    const oldest = this.#slots[this.#head]
    return oldest !== undefined && ENTRY_ID.test(id) && this.#log.compare(id, oldest.id) < 0
  }

  /** Whether the first id is that of the second, or of an entry before it, whether they are kept or not. */
  isUpTo(id: string, last: string): boolean {
    return ENTRY_ID.test(last) && this.#log.compare(id, last) <= 0
  }

  /** The newest entry beyond a position that ends this reader, if it is kept. */
  removalFor(reader: CursorState, after = 0): Slot | undefined {
    const removals = reader.targets.map(target => {
      const slot = target.lastRemoval
      const leftAt = reader.leftAt?.get(target) ?? Number.POSITIVE_INFINITY
      const from = Math.max(after, joinedAt(reader, target))
      return slot && slot.position > from && slot.position <= leftAt ? slot : undefined
    })
    return removals.reduce(
      (newest, slot) => ((slot?.position ?? 0) > (newest?.position ?? 0) ? slot : newest),
      undefined,
    )
  }

  /** Whether the window has got as far as this entry of the log; null stands for an empty log. */
  hasReached(id: string | null): boolean {
    if (id === null) return true
    return this.#reached !== undefined && this.#log.compare(this.#reached, id) >= 0
  }

  /** Whether an entry of this log is still to come; false for an id of another log. */
  willReach(id: string): boolean {
    return this.#reached === undefined || this.#log.compare(this.#reached, id) < 0
  }

  /** The id at a position; undefined when it is no longer, or not yet, in the window. */
  idAt(position: number): string | undefined {
    return this.#slots[this.#head + position - this.#base - 1]?.id
  }

  /** From which position on these ids are of none of the entries; infinity if one is that of the newest. */
  lostFrom(ids: ReadonlySet<string>): number {
    let lost: Slot | undefined
    for (let index = this.#slots.length - 1; index >= this.#head; index--) {
      const slot = this.#slots[index] as Slot
      if (ids.has(slot.id)) break
      lost = slot
    }
    return lost?.position ?? Number.POSITIVE_INFINITY
  }

  /** What marks an id as one inside the history of a reader that opened at this position. */
  suffixAt(openedAt: number, latestOnly: boolean): string {
    const id = this.idAt(openedAt)
    return id === undefined ? '' : historySuffix(id, latestOnly)
  }

  /** Whether an entry for this reader was evicted before it was delivered. */
  hasLost(reader: CursorState): boolean {
    // Nothing beyond its cursor was evicted at all: no need to look at each target.
    if (reader.cursor >= this.start) return false
    for (const target of reader.targets) {
      // A newer entry is not for a reader that has left, so all that is evicted may be a loss to it.
      const hasLeft = reader.leftAt?.has(target) ?? false
      const evicted = hasLeft ? target.newestEvicted : target.evictedFor(reader.id)
      if (evicted > reader.cursor && evicted > joinedAt(reader, target)) return true
    }
    return false
  }

  /**
   * Whether entries for this reader have left the window, or the log before the window was filled. Of a target
   * that was forgotten since then, nothing is known.
   */
  hasLostBeginning(reader: CursorState): boolean {
    return reader.targets.some(target => {
      const from = joinedAt(reader, target)
      const first = target.first?.position ?? Number.POSITIVE_INFINITY
      return target.evictedFor(reader.id) > from || (first > from && first <= this.#filledTo)
    })
  }

  /**
   * What a reader gets up to a position: undefined if its targets have nothing new, otherwise a batch,
   * which may be empty (all of it superseded, or meant for others).
   */
  next(reader: CursorState, upTo: number): Batch | undefined {
    let waiting: Target | undefined
    let several = false
    for (const target of reader.targets) {
      if (target.last === undefined || target.last.position <= reader.cursor) continue
      several = waiting !== undefined
      waiting = target
      // Only one entry is newer and it is this target's: skip the other lookups, each is a cache
      // miss (about 10 % of a delivery at 10,000 streams).
      if (reader.cursor === this.#tail - 1) break
    }
    if (waiting === undefined) return undefined
    const isLikeAllOthers =
      !several &&
      upTo === this.#tail &&
      reader.joinedAt === undefined &&
      reader.leftAt === undefined &&
      reader.cursor >= reader.openedAt &&
      (reader.cursor >= this.#newestVolatile || reader.cursor >= reader.liveAfter)
    if (isLikeAllOthers) {
      const batch = this.#sharedBatch(waiting, reader.cursor)
      if (!batch.excepts.has(reader.id)) return batch
    }
    return this.#batchFor(reader, upTo)
  }

  /** The batch for all members of a target with this cursor but the clients that an entry leaves out. */
  #sharedBatch(target: Target, cursor: number): Batch {
    const first = target.firstAfter(cursor) as Slot
    const shared = target.batches?.get(first)
    if (shared !== undefined && !isOver(shared)) return shared
    const slots: Slot[] = []
    const excepts: string[] = []
    let until: number | undefined
    for (let slot: Slot | undefined = first; slot !== undefined; slot = slot.next) {
      if (slot.except !== undefined) excepts.push(...idsOf(slot.except))
      // A client that the newer one leaves out is among the excepts; for all others it supersedes this.
      if (slot.newer !== undefined || slot.hasExpired) continue
      slots.push(slot)
      if (slot.until !== undefined) until = Math.min(slot.until, until ?? slot.until)
    }
    const batch = batchOf(slots, this.#tail)
    batch.until = until
    for (const clientId of excepts) batch.excepts.add(clientId)
    // Nobody to share it with: it would only hold memory until the client's next entry.
    if (target.size <= 1) return batch
    if (target.batches === undefined || target.batches.size >= MAX_SHARED_BATCHES) {
      target.batches = new Map()
    }
    target.batches.set(first, batch)
    return batch
  }

  /** The batch for one reader, merged from all its targets. */
  #batchFor(reader: CursorState, upTo: number): Batch {
    const { openedAt, liveAfter, latestOnly } = reader
    const slots: Slot[] = []
    let hasTwins = false
    // The client may come back with a channel that it has not joined now, and that has a removal in there.
    let needsSuffix = latestOnly || (this.#channelRemovals > 0 && reader.cursor < openedAt)
    for (const target of reader.targets) {
      const from = Math.max(reader.cursor, joinedAt(reader, target))
      const leftAt = reader.leftAt?.get(target) ?? Number.POSITIVE_INFINITY
      let newestUnkeyedSeen = false
      for (let slot = target.last; slot && slot.position > from; slot = slot.previous) {
        if (slot.position > Math.min(upTo, leftAt) || slot.excepts(reader.id)) continue
        if (slot.isSupersededFor(reader.id, leftAt)) continue
        if (slot.hasExpired || (slot.isVolatile && slot.position <= liveAfter)) continue
        const isHistory = slot.position <= openedAt
        if (isHistory && slot.removal) {
          needsSuffix = true
          continue
        }
        if (isHistory && latestOnly && slot.key === undefined) {
          if (newestUnkeyedSeen) continue
          newestUnkeyedSeen = true
        }
        if (slot.twins !== undefined) hasTwins = true
        slots.push(slot)
      }
    }
    slots.sort((a, b) => a.position - b.position)
    const batch = batchOf(hasTwins ? slots.filter(isFirstAtPosition) : slots, upTo)
    return needsSuffix ? batch.markHistory(openedAt, this.suffixAt(openedAt, latestOnly)) : batch
  }

  #makeRoomFor(added: number, listener?: WindowListener): void {
    const { events, bytes } = this.#options
    while (this.#length > 0 && (this.#length >= events || this.#bytes + added > bytes)) {
      this.#evictOldest(listener)
    }
  }

  /** The time at which an entry arrives, if its age matters. */
  get #now(): number {
    return this.#age === Number.POSITIVE_INFINITY ? 0 : Math.trunc(performance.now())
  }

  /**
   * Evicts what has become too old. The newest entry leaves its place, because its id is the cursor of
   * all clients that are up to date.
   */
  prune(): void {
    if (this.#age === Number.POSITIVE_INFINITY) return
    const isOld = (slot: Slot) => performance.now() - slot.arrivedAt >= this.#age
    while (this.#length > 1 && isOld(this.#slots[this.#head] as Slot)) {
      this.#evictOldest(this.#listener)
    }
    const [newest] = this.#slots.slice(-1)
    const isLeft = this.#length === 1 && newest !== undefined && newest.target.name !== ''
    if (!isLeft || !isOld(newest)) return
    this.#offer(newest, this.#listener)
    // A listener of the app may have sent more.
    if (this.#slots.at(-1) !== newest) return
    this.#unlink(newest)
    this.#agedTo = newest.position
    const { id, position } = newest
    const mark = { id, nonce: '', target: '', frame: '' }
    const place = new Slot(position, mark, new Target(''), false, undefined, newest.arrivedAt)
    place.target.append(place)
    this.#slots[this.#slots.length - 1] = place
    this.#bytes += place.bytes
    this.#marks += 1
  }

  #evictOldest(listener: WindowListener | undefined): void {
    const oldest = this.#slots[this.#head] as Slot
    this.#offer(oldest, listener)
    // A listener of the app may have caused its eviction.
    if (this.#slots[this.#head] === oldest) this.#evict(oldest)
  }

  /** The last chance for readers to get this entry. */
  #offer({ target, twins }: Slot, listener: WindowListener | undefined): void {
    listener?.evicting(target)
    if (twins !== undefined) for (const twin of twins.slice(1)) listener?.evicting(twin.target)
  }

  /** Takes the oldest entry out of its targets. */
  #unlink(oldest: Slot): void {
    const { target, twins } = oldest
    target.evictFirst()
    this.#bytes -= oldest.bytes + hiddenBytes(oldest.key, oldest.except)
    if (oldest.removal && target.name.startsWith('#')) this.#channelRemovals -= 1
    if (target.name === '') this.#marks -= 1
    else this.release(target)
    if (twins === undefined) return
    for (const { target } of twins.slice(1)) {
      target.evictFirst()
      this.release(target)
    }
  }

  #evict(oldest: Slot): void {
    this.#unlink(oldest)
    this.#slots[this.#head] = undefined
    this.#head += 1
    // Half of the array is empty: moving the rest now costs each entry one move on average.
    if (this.#head > 64 && this.#head * 2 > this.#slots.length) {
      this.#slots = this.#slots.slice(this.#head)
      this.#head = 0
    }
  }
}

/** The bytes that an entry takes in the window. */
function bytesOf(entry: Entry, address: TargetAddress | undefined): number {
  return slotBytes(entry) + hiddenBytes(entry.key, address?.except)
}

/** Whether an entry of a batch has expired since the batch was made. */
function isOver({ until }: Batch): boolean {
  return until !== undefined && until <= Date.now()
}

/** Whether a slot is no twin of the one before it. The slots are sorted. */
function isFirstAtPosition(slot: Slot, index: number, slots: readonly Slot[]): boolean {
  return slot.position !== slots[index - 1]?.position
}

function joinedAt(reader: CursorState, target: Target): number {
  return reader.joinedAt?.get(target) ?? 0
}

/** Takes slots up to a removal or the size limit; the batch's position is the reader's next cursor. */
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
