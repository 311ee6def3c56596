/**
 * Answers questions about the streams of this process. Everything is computed when it is asked, so an inspector
 * that nobody looks at costs a stream nothing.
 */
import { Lags } from '../delivery/lag.js'
import type { Slot } from '../delivery/target.js'
import type { EventLog } from '../log/log.js'
import { drain } from '../pool/drain.js'
import type { Hub } from '../pool/hub.js'
import { stateOf } from '../pool/survey.js'
import type { Stream } from '../stream/stream.js'
import { decodeFrame } from '../wire/event.js'
import type { InspectorAction, ResolvedInspectorOptions } from './options.js'
import {
  type ChannelQuery,
  type ChannelRow,
  compare,
  compareRows,
  MAX_ANSWER_BYTES,
  type Part,
  type ProcessRow,
  parseQuestion,
  type RowKey,
  type SentAnswer,
  type SentEntry,
  type StreamQuery,
  type StreamRow,
} from './questions.js'

/** The topic of the questions. */
export const TOPIC = 'inspector'

const MAX_CHANNELS = 4
const MAX_NAME = 64
const MAX_SENT = 50
const MAX_DATA = 1000

/** One for each hub, whatever the number of inspectors: each adds what it allows. */
const RESPONDERS = new WeakMap<Hub, Responder>()

export function responderOf(hub: Hub, allows: ResolvedInspectorOptions): Responder {
  const responder = RESPONDERS.get(hub) ?? new Responder(hub)
  RESPONDERS.set(hub, responder)
  responder.allow(allows)
  return responder
}

export class Responder {
  readonly #hub: Hub
  readonly #actions = new Set<InspectorAction>()
  #showsData = false
  /** Names streams in questions. Only those that a page has asked for have a number. */
  readonly #numbers = new WeakMap<Stream, number>()
  #count = 0

  constructor(hub: Hub) {
    this.#hub = hub
    hub.processes.answerTo(TOPIC, question => this.answer(question))
  }

  allow({ data, actions }: ResolvedInspectorOptions): void {
    this.#showsData ||= data
    for (const action of actions) this.#actions.add(action)
  }

  /** @param body from another process, which may be a newer version. Undefined if it cannot be answered. */
  answer(body: unknown): unknown {
    const question = parseQuestion(body)
    if (question === undefined) return undefined
    if (question.asks === 'process') return this.process()
    if (question.asks === 'streams') return this.#streams(question)
    if (question.asks === 'channels') return this.#channels(question)
    if (question.asks === 'sent') return this.#sent(question.stream, question.data)
    return this.#drain(question.spread)
  }

  process(): ProcessRow {
    const hub = this.#hub
    const { events, bytes } = hub.options.window
    return {
      stats: hub.stats(),
      isReady: hub.isReady,
      engine: engineOf(hub.options.log),
      tail: hub.window.tailId ?? '',
      limits: { events, bytes },
      actions: [...this.#actions],
    }
  }

  #streams({ search, sort, after, limit }: StreamQuery): Part<StreamRow> {
    const lags = new Lags(this.#hub.window)
    const isWanted = matcher(search)
    const found: { stream: Stream; key: RowKey }[] = []
    let total = 0
    for (const stream of this.#hub.members.streams()) {
      if (!isWanted(stream)) continue
      total += 1
      const behind = sort === 'behind' ? behindOf(stream, lags) : 0
      const { id } = stream
      const process = this.#hub.processes.self
      const key = { id, behind, process, stream: this.#numberOf(stream) }
      if (after === undefined || compareRows(key, after, sort) > 0) found.push({ stream, key })
    }
    found.sort((a, b) => compareRows(a.key, b.key, sort))
    const rows = function* (this: Responder) {
      for (const { stream } of found.slice(0, limit)) yield this.#row(stream, lags)
    }
    return partOf(rows.call(this), total, found.length)
  }

  #channels({ search, after, limit }: ChannelQuery): Part<ChannelRow> {
    const wanted = search.toLowerCase()
    const sizes = new Map<string, number>()
    for (const { targets, leftAt } of this.#hub.members.streams()) {
      for (const target of targets) {
        if (target.name[0] !== '#' || leftAt?.has(target)) continue
        sizes.set(target.name, (sizes.get(target.name) ?? 0) + 1)
      }
    }
    const names = [...sizes.keys()].filter(name => name.slice(1).toLowerCase().includes(wanted))
    const rest = names.filter(name => after === undefined || name.slice(1) > after).sort(compare)
    const rows = rest
      .slice(0, limit)
      .map(name => ({ name: name.slice(1), streams: sizes.get(name) as number }))
    return partOf(rows, names.length, rest.length)
  }

  #sent(number: number, wantsData: boolean): SentAnswer | undefined {
    const stream = this.#streamOf(number)
    if (stream === undefined) return undefined
    const { window } = this.#hub
    const row = this.#row(stream, new Lags(window))
    const showsData = wantsData && this.#showsData
    const { sent, waiting } = entriesOf(stream)
    return {
      row,
      cursor: stream.cursorId(window) ?? '',
      tail: window.tailId ?? '',
      lastEventId: stream.lastEventId.slice(0, 100),
      waiting,
      sent: sent.map(slot => sentEntry(slot, slot.position > stream.liveAfter, showsData)),
    }
  }

  /** Lets the clients reconnect, through the load balancer perhaps to another process. The pool stays open. */
  #drain(spread: number): { streams: number } | undefined {
    if (!this.#actions.has('drain')) return undefined
    const { members } = this.#hub
    const streams = members.size
    void drain(members, spread)
    return { streams }
  }

  #row(stream: Stream, lags: Lags): StreamRow {
    const { channels } = stream
    return {
      id: stream.id,
      process: this.#hub.processes.self,
      stream: this.#numberOf(stream),
      behind: behindOf(stream, lags),
      state: stateOf(stream),
      transport: stream.transport,
      buffered: stream.isOpen ? stream.bufferedBytes : 0,
      channels: channels.slice(0, MAX_CHANNELS).map(name => name.slice(0, MAX_NAME)),
      channelCount: channels.length,
    }
  }

  #numberOf(stream: Stream): number {
    const known = this.#numbers.get(stream)
    if (known !== undefined) return known
    this.#count += 1
    this.#numbers.set(stream, this.#count)
    return this.#count
  }

  /** By a search: a map from numbers to streams would keep closed streams from being collected. */
  #streamOf(number: number): Stream | undefined {
    for (const stream of this.#hub.members.streams()) {
      if (this.#numbers.get(stream) === number) return stream
    }
    return undefined
  }
}

function matcher(search: string): (stream: Stream) => boolean {
  if (search.startsWith('#')) return ({ channels }) => channels.includes(search.slice(1))
  const wanted = search.toLowerCase()
  return ({ id }) => id.toLowerCase().includes(wanted)
}

/** -1 where being behind says nothing about the client. */
function behindOf(stream: Stream, lags: Lags): number {
  const isReading = stream.isOpen && !stream.isParked && !stream.hasPages
  return isReading ? lags.of(stream) : -1
}

/** Takes rows until an answer would be too large for an entry of the log; always one, or a page would never end. */
function partOf<Row>(rows: Iterable<Row>, total: number, rest: number): Part<Row> {
  const taken: Row[] = []
  let bytes = 0
  for (const row of rows) {
    bytes += Buffer.byteLength(JSON.stringify(row))
    if (bytes > MAX_ANSWER_BYTES && taken.length > 0) break
    taken.push(row)
  }
  return { total, rows: taken, more: rest > taken.length }
}

/** The newest entries for the stream up to its cursor, and how many wait for it. */
function entriesOf(stream: Stream): { sent: Slot[]; waiting: number } {
  const byPosition = new Map<number, Slot>()
  const waiting = new Set<number>()
  for (const target of stream.targets) {
    const joinedAt = stream.joinedAt?.get(target) ?? 0
    const leftAt = stream.leftAt?.get(target) ?? Number.POSITIVE_INFINITY
    let count = 0
    for (let slot = target.last; slot && slot.position > joinedAt; slot = slot.previous) {
      if (slot.position > leftAt || slot.removal || slot.excepts(stream.id)) continue
      if (slot.position > stream.cursor) {
        waiting.add(slot.position)
        continue
      }
      if (slot.isVolatile && slot.position <= stream.liveAfter) continue
      byPosition.set(slot.position, slot)
      count += 1
      if (count === MAX_SENT) break
    }
  }
  const sent = [...byPosition.values()].sort((a, b) => b.position - a.position)
  return { sent: sent.slice(0, MAX_SENT), waiting: waiting.size }
}

function sentEntry(slot: Slot, isLive: boolean, showsData: boolean): SentEntry {
  const { event, data } = decodeFrame(slot.frame)
  return {
    id: slot.id,
    event: event.slice(0, MAX_NAME),
    bytes: slot.bytes,
    target: slot.target.name,
    isLive,
    ...(showsData && { data: data.slice(0, MAX_DATA) }),
  }
}

function engineOf(log: EventLog | undefined): string {
  return log === undefined ? 'memory' : (log.engine?.slice(0, MAX_NAME) ?? 'custom')
}
