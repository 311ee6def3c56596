/** What the processes send to clients, to channels and to everyone. */
import type { Send } from './history.js'
import type { Address, Part } from './messages.js'
import type { Model } from './model.js'
import type { ServerProcess } from './processes.js'
import type { Random } from './random.js'

export const CHANNELS = ['red', 'green', 'blue', 'black', 'white', 'grey', 'pink', 'teal']

/** Every BEAT milliseconds, PER_BEAT events are sent. */
const BEAT = 50
const PER_BEAT = 3
/** A transaction with two events begins in one of so many beats. */
const BEATS_PER_TRANSACTION = 5
/** For how long one stays open at most, in ms. */
const MAX_HOLD = 60

export interface TrafficOptions {
  readonly model: Model
  readonly random: Random
  /** The processes that take orders. */
  readonly processes: () => readonly ServerProcess[]
  /** Whether some events are sent in transactions. */
  readonly transacts: boolean
  /** The ids of the clients. */
  readonly names: () => readonly string[]
}

export class Traffic {
  readonly #options: TrafficOptions
  #timer: NodeJS.Timeout | undefined

  constructor(options: TrafficOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      for (let i = 0; i < PER_BEAT; i++) this.#send(this.#address(0.4, 0.4))
      if (this.#options.transacts) this.#transactAtTimes()
    }, BEAT)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Sends many events at once by one process, mostly to single clients. */
  burst(count: number): void {
    const process = this.#options.random.pick(this.#options.processes())
    for (let i = 0; i < count; i++) this.#send(this.#address(0.87, 0.12), process)
  }

  /** Sends more to one client than its socket takes. */
  flood(name: string): void {
    const padding = 'x'.repeat(128 * 1024)
    for (let i = 0; i < 60; i++) this.#send({ kind: 'client', name }, undefined, padding)
  }

  /** Sends one event to everyone by that process, without repeating it. */
  fence(process: ServerProcess): Send {
    return this.#publish({ kind: 'everyone', name: '' }, process, { persist: false })
  }

  /** Sends two events in a transaction; resolves once it is open, or over. */
  transact(
    process: ServerProcess,
    how: { readonly ends: 'commit' | 'rollback'; readonly hold: number },
  ): Promise<void> {
    const events = [this.#part(), this.#part()].map(({ event }) => event)
    return process.transact({ type: 'transact', events, ...how })
  }

  /** Sends two events in two transactions, of which PostgreSQL has to end one. */
  deadlock(process: ServerProcess): Send[] {
    const [first, second] = [this.#part(), this.#part()] as const
    void process.transact({ type: 'deadlock', events: [first.event, second.event] })
    return [first.send, second.send]
  }

  #transactAtTimes(): void {
    const { random, processes } = this.#options
    if (!random.chance(1 / BEATS_PER_TRANSACTION)) return
    const ends = random.chance(0.3) ? 'rollback' : 'commit'
    void this.transact(random.pick(processes()), { ends, hold: random.whole(0, MAX_HOLD) })
  }

  #part(): { send: Send; event: Part } {
    const to = this.#address(0.4, 0.4)
    const send = this.#options.model.issue(to)
    return { send, event: { to, data: { n: send.n, s: send.s } } }
  }

  #send(to: Address, process?: ServerProcess, padding?: string): void {
    const { random, processes } = this.#options
    const sender = process ?? random.pick(processes())
    const key = random.chance(0.1) ? random.pick(['a', 'b', 'c']) : undefined
    this.#publish(to, sender, { key, padding, persist: random.chance(0.5) })
  }

  #address(toClient: number, toChannel: number): Address {
    const { random, names } = this.#options
    const way = random.next()
    if (way < toClient) return { kind: 'client', name: random.pick(names()) }
    const except = random.chance(0.2) ? random.pick(names()) : undefined
    if (way >= toClient + toChannel) return { kind: 'everyone', name: '', except }
    return { kind: 'channel', name: random.pick(CHANNELS), except }
  }

  #publish(
    to: Address,
    process: ServerProcess,
    {
      key,
      padding,
      persist,
    }: { key?: string | undefined; padding?: string | undefined; persist: boolean },
  ): Send {
    const send = this.#options.model.issue(to, key)
    const { n, s } = send
    process.publish({ type: 'publish', to, key, data: { n, s, padding }, persist })
    return send
  }
}
