/**
 * Runs beside the other traffic: each is started on one process, read on any, and some are stopped on another one.
 * Whatever happens to the processes and to the engine, every reader gets a run's events from the first one on, each once
 * and in order, and is told of the end: all of them if the run is done, and all acknowledged ones otherwise.
 */
import http from 'node:http'
import { createParser } from 'eventsource-parser'
import type { News } from './messages.js'
import type { Model } from './model.js'
import type { ServerProcess } from './processes.js'
import type { Random } from './random.js'

/** Every BEAT milliseconds a run is started. */
const BEAT = 300
/** Events of a run. */
const LENGTH = 100
const READERS = 3

export interface RunFigures {
  /** How many runs ended in each state. `gone`: the engine had lost them. */
  readonly states: Record<string, number>
  readonly events: number
  readonly reconnects: number
}

export interface RunTrafficOptions {
  readonly model: Model
  readonly random: Random
  readonly processes: () => readonly ServerProcess[]
  /** Called when a reader has ended. */
  readonly onTold: () => void
}

export class RunTraffic {
  readonly figures = { states: {} as Record<string, number>, events: 0, reconnects: 0 }
  readonly #options: RunTrafficOptions
  readonly #runs = new Map<string, ChaosRun>()
  readonly #stops = new Set<NodeJS.Timeout>()
  #timer: NodeJS.Timeout | undefined
  #started = 0

  constructor(options: RunTrafficOptions) {
    this.#options = options
  }

  get isOver(): boolean {
    return [...this.#runs.values()].every(run => run.isOver)
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#begin(), BEAT)
  }

  /** Starts no more runs; those that there are go on. */
  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  close(): void {
    this.stop()
    for (const timer of this.#stops) clearTimeout(timer)
    for (const run of this.#runs.values()) run.close()
  }

  /** What a process tells of one of its runs. */
  told(news: News & { type: 'run' }): void {
    this.#runs.get(news.id)?.told(news)
  }

  /** When all runs are over: an event that a reader lacks now is lost. */
  check(): void {
    for (const run of this.#runs.values()) {
      const state = run.check()
      this.figures.states[state] = (this.figures.states[state] ?? 0) + 1
    }
    this.#runs.clear()
  }

  #begin(): void {
    const { random, processes } = this.#options
    const run = new ChaosRun(`run${this.#started++}`, this.#options, this.figures)
    this.#runs.set(run.id, run)
    random.pick(processes()).order({ type: 'run', id: run.id, length: LENGTH })
    if (!random.chance(0.2)) return
    const timer = setTimeout(
      () => {
        this.#stops.delete(timer)
        random.pick(processes()).order({ type: 'stop run', id: run.id })
      },
      random.whole(0, 1000),
    )
    this.#stops.add(timer)
  }
}

class ChaosRun {
  readonly id: string
  readonly #options: RunTrafficOptions
  readonly #figures: { events: number; reconnects: number }
  readonly #issuedAt: number
  readonly #readers: RunReader[] = []
  /** Whether the process that it was started on has begun it. */
  #hasBegun = false
  /** It was never begun, or the process that should begin it has died. */
  #isVoid = false
  #acknowledged = 0

  constructor(
    id: string,
    options: RunTrafficOptions,
    figures: { events: number; reconnects: number },
  ) {
    this.id = id
    this.#options = options
    this.#figures = figures
    this.#issuedAt = options.model.tick()
  }

  get isOver(): boolean {
    return this.#isVoid || (this.#hasBegun && this.#readers.every(({ end }) => end !== undefined))
  }

  told({ what, count }: News & { type: 'run' }): void {
    if (what === 'acknowledged') this.#acknowledged = count
    // A process that died has not said whether it had begun; a run may also have begun without its knowledge.
    else if (what === 'failed') this.#isVoid ||= !this.#hasBegun
    else this.#begun()
    this.#options.onTold()
  }

  close(): void {
    for (const reader of this.#readers) reader.close()
  }

  /** Returns the state that all readers were told. */
  check(): string {
    const { model } = this.#options
    if (this.#isVoid) return 'not begun'
    const wasLost = model.losses.some(
      ({ endedAt, voidsCursors }) => voidsCursors && this.#issuedAt < endedAt,
    )
    const ends = new Set(this.#readers.map(({ end }) => end as string))
    for (const { end, next, history } of this.#readers) {
      if (wasLost) continue
      const least = end === 'done' ? LENGTH : this.#acknowledged
      if (end === 'gone')
        model.violate(`${this.id} is unknown to the engine, which has lost nothing\n  ${history}`)
      else if (next < least) {
        model.violate(
          `a reader of ${this.id} got ${next} of ${least} events before it was told "${end}"\n  ${history}`,
        )
      } else if (ends.size > 1) {
        const histories = this.#readers.map(({ history }) => history).join('\n  ')
        const told = [...ends].join(', ')
        model.violate(`readers of ${this.id} were told different ends: ${told}\n  ${histories}`)
      }
    }
    return ends.size === 1 ? ([...ends][0] as string) : 'gone'
  }

  #begun(): void {
    this.#hasBegun = true
    const { model, random, processes, onTold } = this.#options
    for (let i = 0; i < READERS; i++) {
      const reader = new RunReader({
        ...{ id: this.id, random, figures: this.#figures, onTold },
        pickPort: () => random.pick(processes()).port,
        violate: what => model.violate(`a reader of ${this.id} ${what}`),
      })
      this.#readers.push(reader)
      reader.connect()
    }
  }
}

interface RunReaderOptions {
  readonly id: string
  readonly random: Random
  readonly figures: { events: number; reconnects: number }
  readonly pickPort: () => number
  readonly violate: (what: string) => void
  readonly onTold: () => void
}

class RunReader {
  /** The number of the event that must come next. */
  next = 0
  /** The state that it was told at the end, or `gone`. */
  end: string | undefined
  readonly #options: RunReaderOptions
  #lastEventId = ''
  #request: http.ClientRequest | undefined
  #timer: NodeJS.Timeout | undefined
  #notes: string[] = []

  constructor(options: RunReaderOptions) {
    this.#options = options
  }

  get history(): string {
    return this.#notes.join('\n    ')
  }

  connect(): void {
    const { id, pickPort, random, figures } = this.#options
    const port = pickPort()
    this.#notes.push(
      `connects to ${port} with ${this.#lastEventId || 'nothing'}, wants ${this.next}`,
    )
    const request = http.get({
      ...{ host: '127.0.0.1', port, path: `/runs/${id}`, agent: false },
      headers: this.#lastEventId === '' ? {} : { 'Last-Event-ID': this.#lastEventId },
    })
    this.#request = request
    request.on('response', response => this.#read(response))
    request.on('error', () => {})
    request.on('close', () => {
      if (this.end !== undefined) return
      figures.reconnects += 1
      this.#timer = setTimeout(() => this.connect(), random.whole(0, 100))
    })
  }

  close(): void {
    this.#end('closed')
    clearTimeout(this.#timer)
    this.#request?.destroy()
  }

  #read(response: http.IncomingMessage): void {
    response.on('error', () => {})
    this.#notes.push(`answered ${response.statusCode}`)
    if (response.statusCode === 204) this.#end('gone')
    // A process that is closing, or has lost Redis, refuses it: another one is tried.
    if (response.statusCode !== 200) {
      response.resume()
      return
    }
    const { random } = this.#options
    const parser = createParser({ onEvent: event => this.#account(event) })
    response.setEncoding('utf8')
    let isCut = false
    response.on('data', (text: string) => {
      if (isCut) return
      isCut = random.chance(0.02)
      parser.feed(isCut ? text.slice(0, random.whole(1, text.length)) : text)
      if (isCut) response.destroy()
    })
  }

  #account({
    event,
    id,
    data,
  }: {
    event?: string | undefined
    id?: string | undefined
    data: string
  }): void {
    if (this.end !== undefined) return
    this.#notes.push(`${event ?? 'event'} ${data} as ${id}`)
    if (id === 'sse.end') {
      this.#end((JSON.parse(data) as { state: string }).state)
      return
    }
    if (id !== undefined) this.#lastEventId = id
    if (event !== undefined) {
      if (event !== 'sse.cursor') this.#options.violate(`got ${event} ${data}\n    ${this.history}`)
      return
    }
    this.#options.figures.events += 1
    if (Number(data) !== this.next) {
      this.#options.violate(`got event ${data} in place of ${this.next}\n    ${this.history}`)
    }
    this.next += 1
  }

  #end(state: string): void {
    this.end ??= state
    this.#options.onTold()
  }
}
