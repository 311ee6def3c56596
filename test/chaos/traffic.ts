/** What the processes send to clients, to channels and to everyone. */
import type { Send } from './history.js'
import type { Address } from './messages.js'
import type { Model } from './model.js'
import type { ServerProcess } from './processes.js'
import type { Random } from './random.js'

export const CHANNELS = ['red', 'green', 'blue', 'black', 'white', 'grey', 'pink', 'teal']

/** Every BEAT milliseconds, PER_BEAT events are sent. */
const BEAT = 50
const PER_BEAT = 3

export interface TrafficOptions {
  readonly model: Model
  readonly random: Random
  /** The processes that take orders. */
  readonly processes: () => readonly ServerProcess[]
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
