/**
 * Encodes an event as the text of its frame (WHATWG HTML, 9.2.6 "Interpreting an event stream").
 * Pure: nothing here knows a socket, a pool or a clock.
 *
 * With a line break in a name or an id, anyone who controls that field could forge whole events.
 * Both are therefore checked here and nowhere else.
 */
import { didYouMean, got, SseError } from '../lib/errors.js'
import { checkName, isPrintable, MAX_NAME } from '../lib/names.js'
import { isWhole } from '../lib/rules.js'
import { GzipText } from './gzip.js'
import type { Payload } from './payload.js'

/** Names of events and their data: `{ update: { count: number } }`. */
export type EventMap = Record<string, unknown>

interface NamedEvent<Name, Data> {
  /** The name, as in `addEventListener(name)`. Without one the event arrives as `message`. */
  event: Name
  /** A string is sent as it is, anything else by the pool's `serialize`, which is JSON by default. */
  data: Data
  /** How long the browser waits before it reconnects, in whole milliseconds. Default: no change. */
  retry?: number | undefined
}

/** Mapped over `Names` itself: only so does TypeScript relate a generic name to its data. */
type Named<Events extends object, Names extends keyof Events & string> = {
  [Name in Names]: NamedEvent<Name, Events[Name]>
}[Names]

/** An event without a name arrives as `message`, so it is typed as the map's `message`. */
type Unnamed<Events extends object> = 'message' extends keyof Events
  ? Omit<NamedEvent<'message', Events['message']>, 'event'> & { event?: undefined }
  : never

type Text<Events extends object> = 'message' extends keyof Events
  ? string extends Events['message']
    ? string
    : never
  : never

/**
 * An event for `pool.send`, `broadcast` and `channel().send`. The log assigns its id. A string is an event
 * of that data; an object has these fields:
 *
 * - `data`: a string is sent as it is, anything else by the pool's `serialize`
 * - `event`: the name; without one the event arrives as `message`
 * - `retry`: the browser's reconnect delay, in whole milliseconds
 * - `key`: supersedes earlier events with the same key and target, where they are not delivered yet
 * - `ttl`: after so many milliseconds the event is not delivered or replayed any more
 * - `volatile`: only for streams that are connected when it is sent; never replayed
 */
export type PoolEvent<
  Events extends object = EventMap,
  Names extends keyof Events & string = keyof Events & string,
> =
  | Text<Events>
  | ((Named<Events, Names> | Unnamed<Events>) & {
      /**
       * Supersedes earlier events with the same key and target: if a stream has several of them still
       * to get, only the newest is delivered. At most 256 characters. Default: none.
       */
      key?: string | undefined
      /**
       * Milliseconds after which the event is not delivered or replayed any more. A client that comes too
       * late gets nothing, and no gap. Counted by the clock of the process that sends. Default: no limit.
       */
      ttl?: number | undefined
      /**
       * `true`: only streams that are connected when the event reaches their process get it. It is never
       * replayed, and a client that misses it gets no gap: for a mouse pointer, or who is typing. Default
       * `false`.
       */
      volatile?: boolean | undefined
    })

/**
 * An event for `ctx.sse.send`: to this stream only, and not in the log. It has the fields of
 * {@link PoolEvent}, with `id` in place of `key`: the app's own id, which becomes the browser's last event
 * id.
 */
export type StreamEvent<
  Events extends object = EventMap,
  Names extends keyof Events & string = keyof Events & string,
> =
  | Text<Events>
  | ((Named<Events, Names> | Unnamed<Events>) & {
      /**
       * The app's own id, of printable ASCII. It becomes the browser's last event id, so from then on
       * the stream's other events carry no id and the log cannot replay them. Routes that number all
       * their events set `resume: false`. Default: none.
       */
      id?: string | number | undefined
    })

/** Turns data that is not a string into a string; `JSON.stringify` by default. */
export type Serialize = (data: unknown) => string

export interface EncodeOptions {
  readonly serialize: Serialize
  readonly maxEventBytes: number
}

const POOL_FIELDS = ['event', 'data', 'retry', 'key', 'ttl', 'volatile'] as const
const STREAM_FIELDS = ['event', 'data', 'retry', 'id'] as const

/** The frame of an event that goes through the log; its `id:` line is added on delivery. */
export function encodePoolEvent(event: unknown, options: EncodeOptions): string {
  const fields = fieldsOf(event, POOL_FIELDS)
  checkLife(fields)
  return encode(fields, options)
}

/** The whole frame of an event that is sent to one stream directly. */
export function encodeStreamEvent(event: unknown, options: EncodeOptions): string {
  const fields = fieldsOf(event, STREAM_FIELDS)
  return encode(fields, options)
}

/**
 * @param call the method that was called, such as `send()`.
 * @throws TypeError for `send('update', data)`, the way of Socket.IO: it would send the name and drop
 * the data.
 */
export function checkOneEvent(call: string, event: unknown, rest: readonly unknown[]): void {
  if (rest.length > 0) {
    throw new TypeError(`${call}: an event is one argument; write ${namedEvent(event)}`)
  }
}

/** An event as it should be written, for an error message about a name that came alone. */
export function namedEvent(name: unknown): string {
  const shown = typeof name === 'string' && /^[\w .:/-]{1,40}$/.test(name) ? name : 'update'
  return `{ event: '${shown}', data: … }`
}

/** Only the `data:` lines and the blank line that ends a frame. `undefined` becomes empty data. */
export function encodeData(data: unknown, { serialize, maxEventBytes }: EncodeOptions): string {
  return limit(`${dataLines(data === undefined ? '' : data, serialize)}\n`, maxEventBytes)
}

/**
 * Turns every line of the text into a comment line, so that none can pass for a field. Without a blank line,
 * at which some clients would dispatch an event with empty data.
 */
export function encodeComment(text: unknown): string {
  if (typeof text !== 'string') {
    throw new TypeError(`comment must be a string; got ${got(text)}`)
  }
  return `${text
    .split(LINE_BREAK)
    .map(line => `:${line && ` ${line}`}`)
    .join('\n')}\n`
}

/** Lines in the order of `encode`, and a blank line at the end: no id, no name of our own, no comment. */
const POOL_FRAME =
  /^(?:event: (?!sse\.)[^\r\n\0]+\n)?(?:retry: \d+\n)?(?:data:(?: [^\r\n]*)?\n)+\n$/

/**
 * Whether a frame is one that {@link encodePoolEvent} makes. Anything else can write into an engine too, and
 * its frame would swallow the next event, or end every page.
 */
export function isPoolFrame(frame: string): boolean {
  return POOL_FRAME.test(frame)
}

/** Parses a frame made by {@link encodePoolEvent}. */
export function decodeFrame(frame: string): { event: string; data: string; retry?: number } {
  let event = 'message'
  let retry: number | undefined
  const data: string[] = []
  for (const line of frame.split('\n')) {
    const end = line.indexOf(': ')
    const value = line.slice(end + 2)
    if (line.startsWith('event: ')) event = value
    else if (line.startsWith('data: ')) data.push(value)
    else if (line.startsWith('retry: ')) retry = Number(value)
  }
  return { event, data: data.join('\n'), ...(retry !== undefined && { retry }) }
}

interface Fields {
  event?: unknown
  data?: unknown
  retry?: unknown
  id?: unknown
  key?: unknown
  ttl?: unknown
  volatile?: unknown
}

function fieldsOf(event: unknown, known: readonly string[]): Fields {
  if (typeof event === 'string') return { data: event }
  const cure = isObject(event) && 'data' in event ? undefined : cureOf(event)
  if (!isObject(event) || Array.isArray(event) || cure !== undefined) {
    throw new TypeError(
      `An event must be a string or an object with "data"; got ${got(event)}. ${cure ?? 'Wrap other data: { data: … }'}`,
    )
  }
  for (const field in event) {
    if (known.includes(field)) continue
    // Each of the two exists on the other kind of event, so a mere "unknown" would be misleading.
    if (field === 'id') throw new TypeError('id cannot be set on a pool event: the log assigns it')
    if (POOL_FIELDS.includes(field as 'key')) {
      throw new TypeError(`${field} works only on events sent through the pool`)
    }
    throw new TypeError(`Unknown event field "${field}"${didYouMean(field, known)}`)
  }
  return event
}

/**
 * The standard leaves the order of fields open. The id is last because some clients store it as soon as they
 * have read its line, and would lose an event that is cut off after it.
 */
function encode({ event, retry, id, data, key }: Fields, options: EncodeOptions): string {
  let frame = ''
  if (event !== undefined && event !== '') frame += `event: ${checkName('event', event)}\n`
  if (retry !== undefined) frame += `retry: ${checkRetry(retry)}\n`
  if (key !== undefined && (typeof key !== 'string' || key.length > MAX_NAME)) {
    throw new TypeError(`key must be a string of at most ${MAX_NAME} characters; got ${got(key)}`)
  }
  frame += dataLines(data, options.serialize)
  if (id !== undefined) frame += `id: ${checkId(id)}\n`
  return limit(`${frame}\n`, options.maxEventBytes)
}

const LINE_BREAK = /\r\n|\r|\n/g
const HAS_LINE_BREAK = /[\r\n]/

function dataLines(data: unknown, serialize: Serialize): string {
  const text = typeof data === 'string' ? data : serialized(data, serialize)
  // The format cannot express a CR: both CRLF and CR arrive as LF.
  return HAS_LINE_BREAK.test(text)
    ? `data: ${text.replace(LINE_BREAK, '\ndata: ')}\n`
    : `data: ${text}\n`
}

function serialized(data: unknown, serialize: Serialize): string {
  const cure = cureOf(data)
  let text: unknown
  // An app's own serializer may well take a Map, but none can wait for a promise.
  if (cure === undefined || (serialize !== JSON.stringify && cure !== AWAIT)) {
    try {
      text = data === undefined ? undefined : serialize(data)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new TypeError(`data cannot be serialized: ${why}`, { cause: error })
    }
  }
  if (typeof text === 'string') return text
  throw new TypeError(
    `data must be a string or something that serializes to one; got ${got(data)}. ${cure ?? "Use '' for no data"}`,
  )
}

const AWAIT = 'Await it'

/** What JSON would drop or turn into `{}`, and what to send instead. */
const CURES: readonly (readonly [isOne: (value: object) => boolean, cure: string])[] = [
  [value => typeof (value as { then?: unknown }).then === 'function', AWAIT],
  [value => typeof value === 'function', 'Call it'],
  [value => value instanceof Error, 'Send error.message'],
  [value => value instanceof Map, 'Send Object.fromEntries(map)'],
  // Such as a Set or a generator. One with fields of its own may be a class that JSON shows well.
  [value => Symbol.iterator in value && Object.keys(value).length === 0, 'Send [...items]'],
  [value => Symbol.asyncIterator in value, 'Send each item'],
]

function cureOf(value: unknown): string | undefined {
  const isPlain = !(isObject(value) || typeof value === 'function') || Array.isArray(value)
  if (isPlain || 'toJSON' in value) return undefined
  return CURES.find(([isOne]) => isOne(value))?.[1]
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function limit(frame: string, maxEventBytes: number): string {
  // A UTF-16 unit is at most three bytes of UTF-8, so most frames need no exact count.
  if (frame.length * 3 <= maxEventBytes) return frame
  const bytes = Buffer.byteLength(frame)
  if (bytes <= maxEventBytes) return frame
  throw new SseError(
    'ERR_SSE_EVENT_TOO_LARGE',
    `The event takes ${bytes} bytes; maxEventBytes allows ${maxEventBytes}. Send a link, or raise maxEventBytes`,
  )
}

function checkId(id: unknown): string {
  if (typeof id === 'number' && Number.isFinite(id)) return String(id)
  if (typeof id !== 'string') {
    throw new TypeError(`id must be a string or a finite number; got ${got(id)}`)
  }
  // Browsers ignore an id with a NUL, and some clients cannot send other characters in a header.
  if (!isPrintable(id)) {
    throw new TypeError(`id must consist of printable ASCII characters; got ${got(id)}`)
  }
  if (id.startsWith('sse.')) {
    throw new TypeError(`id must not begin with "sse." (reserved); got ${got(id)}`)
  }
  return id
}

function checkLife({ ttl, volatile }: Fields): void {
  if (ttl !== undefined && !isWhole(ttl, 1, MAX_TTL)) {
    throw new TypeError(
      `ttl must be a whole number of milliseconds from 1 to ${MAX_TTL}; got ${got(ttl)}`,
    )
  }
  if (volatile !== undefined && typeof volatile !== 'boolean') {
    throw new TypeError(`volatile must be a boolean; got ${got(volatile)}`)
  }
}

/** A year, in milliseconds: more is a point in time, given by mistake. */
const MAX_TTL = 31_536_000_000

function checkRetry(retry: unknown): number {
  // The standard ignores a value that is not only ASCII digits, so 1.5 or 1e21 would do nothing.
  if (!Number.isSafeInteger(retry) || (retry as number) < 0) {
    throw new TypeError(
      `retry must be a whole number of milliseconds, 0 or more; got ${got(retry)}`,
    )
  }
  return retry as number
}

/** Text on its way to sockets. It is encoded once per framing, however many sockets get it. */
export class Chunk implements Payload {
  readonly text: string
  #plain: Buffer | undefined
  #framed: Buffer | undefined
  #gzip: GzipText | undefined

  constructor(text: string) {
    this.text = text
  }

  get size(): number {
    return this.#plain?.length ?? Buffer.byteLength(this.text)
  }

  /** The bytes without framing. */
  get plain(): Buffer {
    this.#plain ??= Buffer.from(this.text)
    return this.#plain
  }

  /** The bytes as one HTTP/1.1 chunk (RFC 9112, 7.1). */
  get framed(): Buffer {
    this.#framed ??= chunked(this.text)
    return this.#framed
  }

  /** The text as a part of gzip streams. */
  get gzip(): GzipText {
    this.#gzip ??= new GzipText(this.plain)
    return this.#gzip
  }
}

/** Texts from this length on are not joined with their framing as strings, which would copy them once more. */
const LONG = 16 * 1024

function chunked(text: string): Buffer {
  const size = Buffer.byteLength(text)
  const head = `${size.toString(16)}\r\n`
  if (size < LONG) return Buffer.from(`${head}${text}\r\n`)
  const bytes = Buffer.allocUnsafe(head.length + size + 2)
  bytes.write(head, 0, 'latin1')
  bytes.write(text, head.length)
  bytes.write('\r\n', head.length + size, 'latin1')
  return bytes
}
