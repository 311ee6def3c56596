/**
 * What each client must have got, derived from what was acknowledged: the log as far as the driver
 * knows it.
 *
 * Time is a counter here. It rises with each send, each fault and each new start of a client.
 */
import { describe, type Loss, type Send } from './history.js'
import { Ledger, type LedgerHost } from './ledger.js'
import type { Address, EngineName, News } from './messages.js'
import { countUpTo, order, type Place, Places } from './place.js'

/** Entries in a window that are no events: the marks at the start of a log. */
const MARKS = 8

export class Violation extends Error {
  override readonly name = 'Violation'
}

export class Model implements LedgerHost {
  readonly engine: EngineName
  readonly #window: number
  readonly #places: Places
  readonly sends = new Map<number, Send>()
  /** All acknowledged sends, in the order of the log. */
  acknowledged: (Send & { place: Place })[] = []
  readonly ledgers: Ledger[] = []
  losses: Loss[] = []
  readonly outcomes = { acknowledged: 0, rejected: 0, uncertain: 0, retried: 0 }
  /** Rejects with the first violation. */
  readonly broken: Promise<never>
  #break: (error: Error) => void = () => {}
  #now = 0
  #sent = 0
  readonly #perTarget = new Map<string, number>()
  #lastCheck = 0

  constructor(engine: EngineName, window: number) {
    this.engine = engine
    this.#window = window
    this.#places = new Places(engine)
    this.broken = new Promise((_, reject) => {
      this.#break = reject
    })
    this.broken.catch(() => {})
  }

  tick(): number {
    this.#now += 1
    return this.#now
  }

  placeOf(id: string): Place {
    return this.#places.of(id)
  }

  violate(what: string): void {
    this.#break(new Violation(what))
  }

  /** A client leaves for good. */
  leave(ledger: Ledger): void {
    this.ledgers.splice(this.ledgers.indexOf(ledger), 1)
  }

  join(name: string, channels: readonly string[]): Ledger {
    const ledger = new Ledger(this, name, channels)
    this.ledgers.push(ledger)
    return ledger
  }

  /** Registers a send that is about to be made. */
  issue(to: Address, key?: string): Send {
    const n = this.#sent++
    const target = `${to.kind} ${to.name}`
    const s = (this.#perTarget.get(target) ?? 0) + 1
    this.#perTarget.set(target, s)
    const issuedAt = this.tick()
    const send: Send = {
      ...{ n, s, to, key, issuedAt, state: 'pending', place: undefined },
      ...{ wasRetried: false, hasArrived: false },
    }
    this.sends.set(n, send)
    return send
  }

  settle({ n, outcome, id, wasRetried, error }: News & { type: 'settled' }): void {
    const send = this.sends.get(n)
    if (send === undefined) return
    send.state = outcome
    send.wasRetried = wasRetried
    this.outcomes[outcome] += 1
    if (wasRetried) this.outcomes.retried += 1
    if (outcome === 'rejected' && send.hasArrived) {
      this.violate(`${describe(send)} was rejected as not stored, and arrived (${error})`)
    }
    if (outcome !== 'acknowledged') return
    const ledgers = this.ledgers.filter(ledger => ledger.isFor(send))
    if (id === undefined) {
      for (const ledger of ledgers) ledger.oweSomewhere(send)
      return
    }
    const place = this.placeOf(id)
    const acknowledged = Object.assign(send, { place })
    this.acknowledged.splice(countUpTo(this.acknowledged, place), 0, acknowledged)
    // Until a process knows that JetStream has a new stream, its sequence numbers name wrong places.
    const isSure = this.engine !== 'nats' || this.losses.length === 0
    for (const ledger of ledgers) {
      if (isSure) ledger.owe(acknowledged)
      else ledger.oweSomewhere(acknowledged)
    }
  }

  /** Entries are about to be lost, until `over` is called. */
  lose(voidsCursors: boolean): { over(): void } {
    const loss: Loss = {
      ...{ beganAt: this.tick(), endedAt: Infinity, voidsCursors },
    }
    this.losses.push(loss)
    return {
      over: () => {
        loss.endedAt = this.tick()
      },
    }
  }

  /** Whether so many entries may have followed that a window no longer has this place. */
  mayHaveLeft(place: Place | undefined): boolean {
    const after =
      this.acknowledged.length - (place === undefined ? 0 : countUpTo(this.acknowledged, place))
    let unknown = 0
    for (const { state, place: at, issuedAt } of this.sends.values()) {
      const isUnknown = at === undefined && state !== 'rejected'
      // A send from before the last check lies before everything that was seen then.
      if (isUnknown && issuedAt > this.#lastCheck) unknown += 1
    }
    return after + unknown + MARKS >= this.#window
  }

  /** Whether a send may be in the log twice, because it was repeated while the log lost its memory. */
  mayDouble(send: Send): boolean {
    if (send.state !== 'pending' && !send.wasRetried) return false
    return this.losses.some(({ endedAt }) => send.issuedAt < endedAt)
  }

  /** Called when all is quiet and everything has arrived: an event that a client lacks now is lost. */
  check(): void {
    for (const ledger of this.ledgers) ledger.check()
    // A send from before the previous check can no longer arrive.
    for (const [n, { issuedAt, state }] of this.sends) {
      if (issuedAt < this.#lastCheck && state !== 'pending') this.sends.delete(n)
    }
    this.acknowledged = this.acknowledged.filter(({ n }) => this.sends.has(n))
    for (const ledger of this.ledgers) ledger.forget(n => !this.sends.has(n))
    this.losses = []
    this.#lastCheck = this.tick()
  }

  /** Whether a later send of the same key and target supersedes this one for this client. */
  isSuperseded(send: Send, ledger: Ledger): boolean {
    for (const other of this.sends.values()) {
      if (other.key !== send.key || other.to.name !== send.to.name || other === send) continue
      if (other.to.kind !== send.to.kind || !ledger.isFor(other)) continue
      if (other.state === 'rejected') continue
      if (other.place === undefined || send.place === undefined) return true
      if (order(other.place, send.place) > 0) return true
    }
    return false
  }
}
