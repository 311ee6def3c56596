/** Asks all processes, and merges what they answer. */
import type { Hub } from '../pool/hub.js'
import {
  type ChannelQuery,
  type ChannelRow,
  compare,
  compareRows,
  type Part,
  type ProcessRow,
  type Question,
  type SentAnswer,
  type StreamQuery,
  type StreamRow,
} from './questions.js'
import { type Responder, TOPIC } from './responder.js'

/** How long to wait for the log and for all answers. */
const SURVEY_TIMEOUT_MS = 3000

/** How long a process that has not answered is named, in milliseconds. */
const MISSING_MS = 60_000

/** What every list comes with. */
interface Reach {
  /** Processes that did not answer in the last minute. */
  readonly missing: readonly string[]
  /** Processes that have no inspector, or an older one. */
  readonly silent: readonly string[]
  /** Whether the log was out of reach, so that only this process has answered. */
  readonly isAlone: boolean
}

export interface List<Row> extends Reach {
  readonly total: number
  readonly rows: readonly Row[]
  readonly more: boolean
}

export type NamedProcess = ProcessRow & { readonly id: string; readonly name: string }

interface Answer {
  readonly from: string
  readonly process: string
  readonly body?: unknown
}

export class Survey {
  readonly #hub: Hub
  readonly #responder: Responder
  /** Processes that have not answered, by their id in questions. */
  readonly #missing = new Map<string, { name: string; since: number }>()

  constructor(hub: Hub, responder: Responder) {
    this.#hub = hub
    this.#responder = responder
  }

  async processes(): Promise<Reach & { processes: NamedProcess[] }> {
    const { answers, ...reach } = await this.#ask({ asks: 'process' })
    const processes = answers.map(({ from, process, body }) => ({
      ...(body as ProcessRow),
      id: from,
      name: process,
    }))
    return { ...reach, processes: processes.sort((a, b) => compare(a.name + a.id, b.name + b.id)) }
  }

  async streams(query: StreamQuery): Promise<List<StreamRow>> {
    const { answers, ...reach } = await this.#ask({ asks: 'streams', ...query })
    const parts = answers.map(({ body }) => body as Part<StreamRow>)
    const order = (a: StreamRow, b: StreamRow) => compareRows(a, b, query.sort)
    return { ...merge(parts, order, query.limit), ...reach }
  }

  async channels(query: ChannelQuery): Promise<List<ChannelRow>> {
    const { answers, ...reach } = await this.#ask({ asks: 'channels', ...query })
    const parts = answers.map(({ body }) => body as Part<ChannelRow>)
    const merged = merge(parts, (a, b) => compare(a.name, b.name), Number.POSITIVE_INFINITY)
    const sizes = new Map<string, number>()
    for (const { name, streams } of merged.rows) sizes.set(name, (sizes.get(name) ?? 0) + streams)
    const rows = Array.from(sizes, ([name, streams]) => ({ name, streams }))
    const more = merged.more || rows.length > query.limit
    // A channel is on several processes, so only an upper bound of their number is known, unless all are here.
    const total = more || query.after !== undefined ? merged.total : rows.length
    return { total, rows: rows.slice(0, query.limit), more, ...reach }
  }

  sent(process: string, stream: number, data: boolean): Promise<SentAnswer | undefined> {
    return this.#askOne(process, { asks: 'sent', stream, data }) as Promise<SentAnswer | undefined>
  }

  drain(process: string, spread: number): Promise<{ streams: number } | undefined> {
    return this.#askOne(process, { asks: 'drain', spread }) as Promise<
      { streams: number } | undefined
    >
  }

  #missingNames(): string[] {
    return Array.from(this.#missing.values(), ({ name }) => name)
  }

  async #askOne(process: string, question: Question): Promise<unknown> {
    const { answers } = await inTime(this.#hub.processes.survey(TOPIC, question, process))
    return answers.find(({ from }) => from === process)?.body
  }

  async #ask(question: Question): Promise<Reach & { answers: Answer[] }> {
    const { processes } = this.#hub
    try {
      const { answers, missing } = await inTime(processes.survey(TOPIC, question))
      const now = performance.now()
      for (const { from, process } of missing) {
        this.#missing.set(from, { name: process, since: now })
      }
      for (const { from } of answers) this.#missing.delete(from)
      for (const [from, { since }] of this.#missing) {
        if (now - since > MISSING_MS) this.#missing.delete(from)
      }
      const silent = answers.filter(({ body }) => body === undefined)
      return {
        answers: answers.filter(({ body }) => body !== undefined),
        missing: this.#missingNames(),
        silent: silent.map(({ process }) => process),
        isAlone: false,
      }
    } catch {
      // The log's own error event has reported why. What this process has can still be shown.
      const own = { from: processes.self, process: '', body: this.#responder.answer(question) }
      return { answers: [own], missing: this.#missingNames(), silent: [], isAlone: true }
    }
  }
}

/** Merges sorted parts. Beyond the end of an incomplete part, rows of that process may be missing, so it stops there. */
function merge<Row>(
  parts: readonly Part<Row>[],
  order: (a: Row, b: Row) => number,
  limit: number,
): Part<Row> {
  const ends = parts.filter(({ more }) => more).map(({ rows }) => rows.at(-1) as Row)
  const end = ends.sort(order)[0]
  const rows = parts.flatMap(part => part.rows).sort(order)
  const safe = end === undefined ? rows : rows.filter(row => order(row, end) <= 0)
  const total = parts.reduce((sum, part) => sum + part.total, 0)
  return { total, rows: safe.slice(0, limit), more: end !== undefined || safe.length > limit }
}

async function inTime<Value>(promise: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const error = new Error('The processes did not answer in time')
    timer = setTimeout(reject, SURVEY_TIMEOUT_MS, error)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
    promise.catch(() => {})
  }
}
