/**
 * The model: what each client must have received, by the promises of docs/guarantees.md and nothing else.
 *
 * All entries of a run have a place in the log, which their ids show. A client's events are judged visit by
 * visit; a visit is one connection. Whether an entry is meant for a visit follows from where the visit
 * started and from the channels it was in:
 *
 * - A visit with a cursor starts right after the entry of the cursor.
 * - Everything else (a stream without a cursor, a join, a leave) happens at a moment. A send that resolved
 *   on the same process before that moment lies before it, and a send that began later lies after it. A send
 *   that was under way, or was made by another process, may lie on either side.
 * - An entry that has expired is not for visits that begin later, and a volatile one not for visits that begin
 *   after it has come. Neither is a loss to anyone. Both supersede older ones as any other entry does.
 */

/** An entry of the log. Moments are counted: each thing that happens in a run is one tick. */
export interface Sent {
  readonly n: number
  /** `*`, `@client`, or one or more of `#channel`. */
  readonly targets: readonly string[]
  readonly isRemoval: boolean
  readonly except: readonly string[]
  readonly life: 'ttl' | 'volatile' | undefined
  readonly key: string | undefined
  /** Whether it may fill the socket of a client. */
  readonly isBig: boolean
  readonly pool: number
  readonly begun: number
  /** When the send resolved; infinite while it has not. */
  resolved: number
  /** When its ttl was over; infinite for never. */
  expired: number
  /** Whether its first attempt was not stored, or may not have been. */
  hasFailed: boolean
  /** Undefined for a send that was rejected for good. */
  id: string | undefined
}

/** A target that a visit reads. */
export interface Stay {
  readonly target: string
  /** When it began: between two moments. Undefined if the visit's cursor says where. */
  readonly since: readonly [after: number, before: number] | undefined
  /** When it ended: between two moments. */
  leftAt: readonly [after: number, before: number] | undefined
}

export type Received =
  | { readonly kind: 'entry'; readonly n: number; readonly id: string }
  | { readonly kind: 'cursor'; readonly id: string }
  | { readonly kind: 'gap'; readonly reason: string; readonly id: string }
  /** The close event. Its data is the number of the removal, or `end`. */
  | { readonly kind: 'close'; readonly data: string }

/** One connection of a client. */
export interface Visit {
  readonly client: string
  readonly pool: number
  /** When it began: between two moments. */
  readonly connected: readonly [after: number, before: number]
  /** The cursor that it came with. */
  readonly cursor: string | undefined
  readonly stays: Stay[]
  readonly got: Received[]
  /** Whether the client has stopped to read. */
  wasBlocked: boolean
  /** When `end()` was called. */
  endedAt: number | undefined
}

interface Placed extends Sent {
  readonly id: string
  /** Its place in the log, from 1. */
  readonly place: number
}

type Verdict = 'no' | 'maybe' | 'yes'
const either = (a: Verdict, b: Verdict): Verdict =>
  a === 'yes' || b === 'yes' ? 'yes' : a === 'maybe' || b === 'maybe' ? 'maybe' : 'no'
const both = (a: Verdict, b: Verdict): Verdict =>
  a === 'no' || b === 'no' ? 'no' : a === 'maybe' || b === 'maybe' ? 'maybe' : 'yes'

/** Everything that was sent in a run, in the order of the log. */
export class Log {
  readonly entries: readonly Placed[]
  readonly #window: number
  readonly #byNumber: ReadonlyMap<number, Placed>
  readonly #byId: ReadonlyMap<string, Placed>
  /** Whether the engine was out of reach at some time. */
  readonly #hadOutage: boolean
  /** Whether every process has an entry as soon as it is sent. */
  readonly #isPrompt: boolean

  constructor(
    sent: readonly Sent[],
    {
      window,
      compare,
      isPrompt,
    }: { window: number; compare(a: string, b: string): number; isPrompt: boolean },
  ) {
    const stored = sent.filter((entry): entry is Sent & { id: string } => entry.id !== undefined)
    stored.sort((a, b) => compare(a.id, b.id))
    this.entries = stored.map((entry, index) => ({ ...entry, place: index + 1 }))
    this.#window = window
    this.#isPrompt = isPrompt
    this.#byNumber = new Map(this.entries.map(entry => [entry.n, entry]))
    this.#byId = new Map(this.entries.map(entry => [entry.id, entry]))
    this.#hadOutage = sent.some(({ hasFailed }) => hasFailed)
  }

  /** What is wrong with a visit; undefined if nothing is. */
  judge(visit: Visit): string | undefined {
    const from = visit.cursor === undefined ? 0 : this.#byId.get(visit.cursor)?.place
    if (from === undefined) return `came with ${visit.cursor}, which was never an id of the log`
    const seen = new Set<number>()
    const skipped: { from: number; to: number; endsHere: boolean }[] = []
    let reached = from
    let close: string | undefined
    for (const received of visit.got) {
      if (close !== undefined) return `got ${show(received)} after the close event`
      if (received.kind === 'close') {
        close = received.data
        continue
      }
      const entry = this.#byId.get(received.id)
      if (entry === undefined) return `got ${show(received)}, whose id is not in the log`
      const { place } = entry
      if (received.kind === 'entry') {
        if (entry.n !== received.n) return `got ${show(received)}, but that is the id of ${entry.n}`
        if (place <= reached) return `got ${show(received)} twice or out of order`
        if (this.#isMeant(entry, visit, from) === 'no') {
          return `got ${show(received)}, which was not meant for it`
        }
        seen.add(place)
      } else if (received.kind === 'cursor') {
        if (place < reached) return `got ${show(received)}, which lies before what it had`
      } else {
        const reason = this.#reasonForGap(visit, from, reached, place, visit.got[0] === received)
        if (reason !== received.reason) {
          return `got ${show(received)}, but ${reason ?? 'nothing'} is true`
        }
        skipped.push({ from: reached, to: place, endsHere: false })
      }
      reached = place
    }

    if (close !== undefined && close !== 'end') {
      const removal = this.#byNumber.get(Number(close))
      if (removal === undefined || !removal.isRemoval) return `was removed by ${close}`
      if (this.#isMeant(removal, visit, from) === 'no' || removal.place <= reached) {
        return `was ended by the removal ${close}, which was not about this visit`
      }
      // A removal takes the place of a gap. What the tail was then is not known.
      const { length } = this.entries
      const isFirst = visit.got[0]?.kind === 'close'
      const hasLost =
        this.#reasonForGap(visit, from, reached, length, isFirst, removal.place) !== undefined
      if (hasLost) skipped.push({ from: reached, to: removal.place, endsHere: true })
      seen.add(removal.place)
      reached = removal.place
    }
    if (close === 'end' && visit.endedAt === undefined) return 'got a close event for no end()'
    if (close === 'end') {
      // Of an end and a removal that both wait, the end gives the close event, and the removal may still have
      // taken the place of a gap.
      const removal = this.entries.find(
        entry =>
          entry.isRemoval && entry.place > reached && this.#isMeant(entry, visit, from) !== 'no',
      )
      const isFirst = visit.got[0]?.kind === 'close'
      const { length } = this.entries
      const hasLost =
        removal !== undefined &&
        this.#reasonForGap(visit, from, reached, length, isFirst, removal.place) !== undefined
      if (hasLost) skipped.push({ from: reached, to: removal.place, endsHere: true })
    }

    let mayBeRemoved = false
    for (const entry of this.entries) {
      const { place } = entry
      const meant = this.#isMeant(entry, visit, from)
      // Of an end and a removal that both wait, either gives the close event.
      mayBeRemoved ||= entry.isRemoval && place > from && meant !== 'no'
      const isBeforeEnd =
        close === 'end' &&
        !mayBeRemoved &&
        entry.pool === visit.pool &&
        !this.#hadOutage &&
        entry.begun < (visit.endedAt as number)
      if (place > reached && !isBeforeEnd) continue
      if (close === 'end' && seen.has(place) && this.#isAfterEnd(entry, visit)) {
        return `got ${entry.n}, which was sent after end()`
      }
      if (meant !== 'yes' || seen.has(place)) continue
      const skip = skipped.find(({ from, to }) => place > from && place <= to)
      if (entry.isRemoval) {
        // A gap may only hide a removal that had left the window before the client came back.
        const isExcused =
          skip?.endsHere || (skip !== undefined && this.#wasAway(visit, skip.from, place, from))
        if (!isExcused) return `was not ended by the removal ${entry.n}`
      } else if (skip === undefined && !this.#isSuperseded(entry, visit, from, 'maybe')) {
        return `never got ${entry.n}`
      }
    }
    return undefined
  }

  #isAfterEnd({ begun, pool }: Placed, { endedAt, pool: own }: Visit): boolean {
    return !this.#hadOutage && pool === own && begun > (endedAt as number)
  }

  /** Whether a removal lies in the part of the log that the client's first gap skipped. */
  #wasAway(visit: Visit, skippedFrom: number, place: number, from: number): boolean {
    const isFirst = skippedFrom === from && visit.got[0]?.kind === 'gap'
    return isFirst && visit.cursor !== undefined && place <= this.entries.length - this.#window
  }

  /** Why the visit may get a gap that skips everything up to a place; undefined if it may not. */
  #reasonForGap(
    visit: Visit,
    from: number,
    reached: number,
    place: number,
    isFirst: boolean,
    upTo = place,
  ): string | undefined {
    const evicted = place - this.#window
    // The cursor itself has left the window: nobody can know whether something was missed.
    if (isFirst && visit.cursor !== undefined && from <= evicted) {
      const first = visit.got[0]
      if (first?.kind !== 'gap' || first.reason === 'trimmed') return 'trimmed'
    }
    // An entry does not leave the window before it was offered to every client.
    if (!visit.wasBlocked && !this.entries.some(({ isBig }) => isBig)) return undefined
    // Of a channel that was left, the window only remembers that something was evicted.
    if (visit.stays.some(({ leftAt }) => leftAt !== undefined) && reached < evicted) return 'lagged'
    for (const entry of this.entries) {
      if (entry.place <= reached || entry.place > Math.min(evicted, upTo)) continue
      if (this.#isMeant(entry, visit, from) === 'no' || entry.life === 'volatile') continue
      const last = Math.min(place, entry.place + this.#window - 1)
      if (entry.isRemoval || !this.#isSuperseded(entry, visit, from, 'yes', last)) return 'lagged'
    }
    return undefined
  }

  #isMeant(entry: Placed, visit: Visit, from: number): Verdict {
    return both(this.#isAddressed(entry, visit, from), this.#isAlive(entry, visit))
  }

  /** Whether it is for the visit, not considering how long. */
  #isAddressed(entry: Placed, visit: Visit, from: number): Verdict {
    return entry.targets
      .map(target => this.#isAddressedBy(target, entry, visit, from))
      .reduce(either, 'no')
  }

  /** The same by one of its targets. */
  #isAddressedBy(target: string, entry: Placed, visit: Visit, from: number): Verdict {
    if (entry.except.includes(visit.client)) return 'no'
    let verdict: Verdict = 'no'
    let leftAt: Stay['leftAt']
    for (const stay of visit.stays) {
      if (stay.target !== target) continue
      verdict = either(verdict, both(since(entry, stay, visit, from), until(entry, stay, visit)))
      // A slow client that joins again reads on as if it had stayed.
      if (leftAt !== undefined && entry.begun > leftAt[0]) verdict = either(verdict, 'maybe')
      leftAt = stay.leftAt
    }
    return verdict
  }

  /** Whether it is still to be delivered when the visit gets to it. */
  #isAlive({ life, place, pool, begun, resolved, expired }: Placed, visit: Visit): Verdict {
    const [after, before] = visit.connected
    if (life === 'ttl') {
      if (expired < after) return 'no'
      return expired === Number.POSITIVE_INFINITY ? 'yes' : 'maybe'
    }
    if (life !== 'volatile') return 'yes'
    if (resolved < after && (pool === visit.pool || this.#isPrompt)) return 'no'
    // A slow client may get to it when it has left the window.
    const isSlow = visit.wasBlocked || this.entries.some(({ isBig }) => isBig)
    const mayBeGone = isSlow && place <= this.entries.length - this.#window
    return begun > before && this.#isPrompt && !mayBeGone ? 'yes' : 'maybe'
  }

  /** Whether newer entries, up to a place, have the same key and are for the visit as well, by each target. */
  #isSuperseded(
    entry: Placed,
    visit: Visit,
    from: number,
    certainty: Verdict,
    last = this.entries.length,
  ): boolean {
    if (entry.key === undefined) return false
    // By a target that only may be one of the visit, it need not be superseded to be left out.
    const counts = certainty === 'yes' ? ['yes', 'maybe'] : ['yes']
    return entry.targets.every(target => {
      if (!counts.includes(this.#isAddressedBy(target, entry, visit, from))) return true
      return this.entries.slice(entry.place, last).some(newer => {
        if (newer.key !== entry.key || !newer.targets.includes(target)) return false
        const addressed = this.#isAddressedBy(target, newer, visit, from)
        return addressed === 'yes' || addressed === certainty
      })
    })
  }
}

function since(entry: Placed, { since }: Stay, { pool }: Visit, from: number): Verdict {
  if (since === undefined) return entry.place > from ? 'yes' : 'no'
  const [after, before] = since
  if (entry.begun > before) return 'yes'
  return entry.pool === pool && entry.resolved < after ? 'no' : 'maybe'
}

function until(entry: Placed, { leftAt }: Stay, { pool }: Visit): Verdict {
  if (leftAt === undefined) return 'yes'
  const [after, before] = leftAt
  if (entry.begun > before) return 'no'
  return entry.pool === pool && entry.resolved < after ? 'yes' : 'maybe'
}

export function show(received: Received): string {
  if (received.kind === 'entry') return `${received.n} as ${received.id}`
  if (received.kind === 'cursor') return `the cursor ${received.id}`
  if (received.kind === 'gap') return `a gap (${received.reason}) at ${received.id}`
  return `the close event (${received.data})`
}
