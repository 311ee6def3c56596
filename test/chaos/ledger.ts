/** The account of one client: what it got, in which order, and what it is still owed. */
import { describe, type Loss, type Send } from './history.js'
import type { EngineName, Payload } from './messages.js'
import { countUpTo, order, type Place } from './place.js'

type Acknowledged = Send & { readonly place: Place }

/** What a ledger needs of the model, which all ledgers share. */
export interface LedgerHost {
  readonly engine: EngineName
  readonly sends: ReadonlyMap<number, Send>
  readonly losses: readonly Loss[]
  tick(): number
  placeOf(id: string): Place
  violate(what: string): void
  mayHaveLeft(place: Place | undefined): boolean
  mayDouble(send: Send): boolean
  isSuperseded(send: Send, ledger: Ledger): boolean
}

export class Ledger {
  readonly name: string
  readonly channels: ReadonlySet<string>
  readonly #model: LedgerHost
  /** The place of the last id that the client got; it must have everything up to here. */
  #place: Place | undefined
  /** Acknowledged sends that are not due yet or have not arrived, in the order of the log. */
  #owed: Acknowledged[] = []
  readonly #received = new Set<number>()
  /** Sends that were skipped, which is right only if a later one of the same key superseded them. */
  #passed: Acknowledged[] = []
  /** Acknowledged sends whose place is not known, or may be wrong. They are due at the end of the round. */
  #unplaced: Send[] = []
  /** Where the client started, and where it started again after each gap. */
  #starts: { readonly from: Place | undefined; readonly to: Place }[] = []
  #startedAt = 0
  #toldAt = 0
  /** Gaps since the last check that are not explained by a full window. */
  #gaps = 0
  #log: string[] = []

  constructor(model: LedgerHost, name: string, channels: readonly string[]) {
    this.#model = model
    this.name = name
    this.channels = new Set(channels)
  }

  isFor({ to }: Send): boolean {
    if (to.except === this.name) return false
    if (to.kind === 'everyone') return true
    return to.kind === 'client' ? to.name === this.name : this.channels.has(to.name)
  }

  hasReached(place: Place): boolean {
    return this.#place !== undefined && order(this.#place, place) >= 0
  }

  /** Whether the client got this event, or started again after it. */
  hasGot({ n, issuedAt, place }: Send): boolean {
    if (this.#received.has(n)) return true
    return place !== undefined && this.#newestStart > issuedAt && this.hasReached(place)
  }

  /** Keeps a line for the report of a violation. */
  note(text: string): void {
    this.#log.push(text)
    if (this.#log.length > 40) this.#log.shift()
  }

  /** The last things that happened to this client. */
  get history(): string {
    return `${this.name}:${this.#log.map(line => `\n    ${line}`).join('')}`
  }

  owe(send: Acknowledged): void {
    if (this.#received.has(send.n)) return
    if (this.hasReached(send.place)) this.#miss(send)
    else this.#owed.splice(countUpTo(this.#owed, send.place), 0, send)
  }

  /** Owes a send whose place is not known, or may be wrong. */
  oweSomewhere(send: Send): void {
    if (!this.#received.has(send.n)) this.#unplaced.push(send)
  }

  message(id: string, { n, s }: Payload): void {
    this.note(`${n} as ${id}`)
    const send = this.#model.sends.get(n)
    if (send === undefined || send.s !== s || !this.isFor(send)) {
      this.#violate(`got event ${n} as ${id}, which is not for it or is from long ago`)
      return
    }
    if (this.#received.has(n) && !this.#model.mayDouble(send)) {
      this.#violate(`got ${describe(send)} twice, now as ${id}`)
      return
    }
    if (send.state === 'rejected') {
      this.#violate(`got ${describe(send)} as ${id}, though it was rejected as not stored`)
      return
    }
    const place = this.#model.placeOf(id)
    if (this.hasReached(place)) {
      this.#violate(`got ${describe(send)} out of order, as ${id}`)
      return
    }
    send.hasArrived = true
    this.#received.add(n)
    this.#goTo(place)
  }

  /** A heartbeat: the client must have everything up to this id. */
  cursor(id: string): void {
    this.note(`cursor ${id}`)
    const place = this.#model.placeOf(id)
    if (this.#place !== undefined && order(place, this.#place) < 0) {
      this.#violate(`got the cursor ${id}, which lies before what it already had`)
      return
    }
    this.#goTo(place)
  }

  gap(reason: string, id: string | undefined): void {
    this.note(`gap ${reason} at ${id}`)
    if (!this.#model.mayHaveLeft(this.#place)) {
      this.#gaps += 1
      if (this.#gaps > this.#model.losses.length) {
        this.#violate(`got a gap (${reason}) without a cause, at ${id}`)
        return
      }
    }
    if (id === undefined) {
      this.#violate(`got a gap (${reason}) without a new cursor`)
      return
    }
    this.#toldAt = this.#model.tick()
    this.#start(this.#place, this.#model.placeOf(id))
  }

  /** Called at the end of a round, when all is quiet: an event that the client lacks now is lost. */
  check(): void {
    for (const send of this.#passed) {
      if (!this.#model.isSuperseded(send, this) && !this.#isExcused(send)) {
        this.#violate(`never got ${describe(send)}, nor a newer one of its key`)
      }
    }
    for (const send of this.#unplaced) {
      if (this.#received.has(send.n) || this.#newestStart > send.issuedAt) continue
      if (send.key === undefined || !this.#model.isSuperseded(send, this)) {
        this.#violate(`never got ${describe(send)}`)
      }
    }
    for (const { voidsCursors, beganAt } of this.#model.losses) {
      const hadCursor = this.#place !== undefined && this.#startedAt < beganAt
      if (voidsCursors && hadCursor && this.#toldAt < beganAt) {
        this.#violate('got no gap, though the log is another one')
      }
    }
    this.#passed = []
    this.#unplaced = []
    this.#gaps = 0
    // The newest starts are kept for outcomes that are reported late.
    this.#starts = this.#starts.slice(-2)
  }

  forget(isOld: (n: number) => boolean): void {
    for (const n of this.#received) if (isOld(n)) this.#received.delete(n)
  }

  get #newestStart(): number {
    return Math.max(this.#startedAt, this.#toldAt)
  }

  #goTo(place: Place): void {
    if (this.#place === undefined) {
      this.#startedAt = this.#model.tick()
      this.#start(undefined, place)
      return
    }
    this.#place = place
    for (const send of this.#takeOwed(place)) {
      if (!this.#received.has(send.n)) this.#miss(send)
    }
  }

  #start(from: Place | undefined, to: Place): void {
    this.#starts.push({ from, to })
    this.#place = to
    this.#takeOwed(to)
  }

  #takeOwed(place: Place): Acknowledged[] {
    return this.#owed.splice(0, countUpTo(this.#owed, place))
  }

  #miss(send: Acknowledged): void {
    if (send.key !== undefined) this.#passed.push(send)
    else if (!this.#isExcused(send)) this.#violate(`never got ${describe(send)}`)
  }

  /** Whether the send lies before the client's start or in a gap. */
  #isExcused(send: Acknowledged): boolean {
    const isBefore = (place: Place | undefined) =>
      place === undefined || order(place, send.place) < 0
    const isSkipped = this.#starts.some(
      ({ from, to }) => isBefore(from) && order(send.place, to) <= 0,
    )
    if (isSkipped) return true
    // A send that was repeated may have another place than the acknowledged one.
    if (send.wasRetried && send.issuedAt < this.#newestStart) return true
    // An emptied Redis may give an id of the same millisecond again, or a smaller one.
    const isOfThatTime = this.#starts.some(({ to }) => to.major === send.place.major)
    return this.#model.engine === 'redis' && this.#model.losses.length > 0 && isOfThatTime
  }

  #violate(what: string): void {
    this.#model.violate(`${this.name} ${what}\n  ${this.history}`)
  }
}
