/** Reads any kind of source as one async iterable that can be stopped from outside. */
import { Readable } from 'node:stream'
import { got } from '../lib/errors.js'

/** What `ctx.sse.stream` takes. */
export type StreamSource<Item> =
  | Iterable<Item>
  | AsyncIterable<Item>
  | ReadableStream<Item>
  | NodeJS.ReadableStream

export interface Items {
  readonly items: AsyncIterable<unknown>
  /** Ends the iteration, and the source with it. */
  readonly stop: () => void
}

export function iterate(source: unknown): Items {
  if (source instanceof Readable) {
    return { items: decoded(source), stop: () => source.destroy() }
  }
  if (source instanceof ReadableStream) {
    const reader = source.getReader()
    // The stream's own iterator cannot be stopped while it waits for the next item.
    const items = decoded(readAll(reader))
    return { items, stop: () => void reader.cancel().catch(() => {}) }
  }
  // A string is iterable too, and would be sent letter by letter.
  if (typeof source === 'object' && source !== null) {
    if (Symbol.asyncIterator in source || Symbol.iterator in source) {
      const iterator = iteratorOf(source as AsyncIterable<unknown>)
      const items = decoded({ [Symbol.asyncIterator]: () => iterator })
      return { items, stop: () => void close(iterator) }
    }
  }
  throw new TypeError(
    `stream() takes an iterable, an async iterable, a Node stream or a web stream; got ${got(source)}`,
  )
}

/**
 * Passes items on one by one, until there are no more, `take` resolves to false, or the function that
 * this adds to `stops` is called. Rejects with the source's own error.
 */
export async function readWhile(
  stops: Set<() => void>,
  { items, stop }: Items,
  take: (item: unknown) => Promise<boolean>,
): Promise<void> {
  const readAll = async () => {
    for await (const item of items) {
      if (!(await take(item))) break
    }
  }
  const done = readAll()
  let leave!: () => void
  const left = new Promise<void>(resolve => {
    leave = () => {
      // A stopped source may fail in its own way, which does not matter once the client has left.
      done.catch(() => {})
      stop()
      resolve()
    }
  })
  stops.add(leave)
  try {
    await Promise.race([done, left])
  } finally {
    // Otherwise a long-lived stream would keep every source it ever had.
    stops.delete(leave)
  }
}

/** A source that fails to close must not end the process when a browser merely leaves. */
async function close(iterator: AsyncIterator<unknown>): Promise<void> {
  try {
    await iterator.return?.()
  } catch {}
}

async function* readAll(reader: ReadableStreamDefaultReader<unknown>) {
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    await reader.cancel()
  }
}

function iteratorOf(source: AsyncIterable<unknown> | Iterable<unknown>): AsyncIterator<unknown> {
  if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]()
  return (async function* () {
    yield* source
  })()
}

/** Bytes become text; a character that was split between two chunks of bytes or text arrives whole. */
async function* decoded(source: AsyncIterable<unknown>) {
  let decoder: InstanceType<typeof TextDecoder> | undefined
  let half = ''
  for await (const item of source) {
    if (half !== '' && typeof item !== 'string') {
      yield half
      half = ''
    }
    if (item instanceof Uint8Array) {
      decoder ??= new TextDecoder()
      const text = decoder.decode(item, { stream: true })
      if (text !== '') yield text
    } else if (typeof item === 'string') {
      const text = half + item
      half = HALF_CHARACTER.exec(text)?.[0] ?? ''
      // An empty item is an event of its own.
      if (text !== half || half === '') yield half === '' ? text : text.slice(0, -1)
    } else {
      yield item
    }
  }
  const rest = half + (decoder?.decode() ?? '')
  if (rest) yield rest
}

/** The first half of a surrogate pair: half of a character beyond U+FFFF. */
const HALF_CHARACTER = /[\uD800-\uDBFF]$/
