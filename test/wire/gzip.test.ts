import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Chunk } from '../../src/wire/event.js'
import { GzipStream } from '../../src/wire/gzip.js'

/** A reader, and all that it has received. */
class Reader {
  readonly #gzip = new GzipStream()
  readonly #parts: Buffer[]

  constructor(first: Chunk) {
    this.#parts = [this.#gzip.begin(first.gzip).plain]
  }

  take({ gzip }: Chunk): Buffer {
    const { plain } = this.#gzip.next(gzip)
    this.#parts.push(plain)
    return plain
  }

  /** What a client makes of it; throws if checksum or length are wrong. */
  end(): string {
    return gunzipSync(Buffer.concat([...this.#parts, this.#gzip.end().plain])).toString()
  }
}

const event = (count: number) =>
  new Chunk(
    `event: update\ndata: ${JSON.stringify({ order: count, state: 'packed', place: 'shelf 12' })}\nid: ${count}\n\n`,
  )

const HELLO = new Chunk(':ok\n')

test('every reader can decompress what it got, whatever others got', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.constant(''),
    fc.nat({ max: 70_000 }).map(length => 'x'.repeat(length)),
    fc.nat({ max: 9 }).map(count => event(count).text),
    fc
      .uint8Array({ minLength: 60_000, maxLength: 70_000 })
      .map(bytes => Buffer.from(bytes).toString('latin1')),
  )
  fc.assert(
    fc.property(
      fc.array(text, { minLength: 1, maxLength: 8 }),
      fc.array(fc.array(fc.nat(), { maxLength: 20 }), { minLength: 1, maxLength: 8 }),
      (texts, readers) => {
        const chunks = texts.map(one => new Chunk(one))
        for (const picks of readers) {
          const reader = new Reader(HELLO)
          const taken = picks.map(pick => chunks[pick % chunks.length] as Chunk)
          for (const chunk of taken) reader.take(chunk)
          const expected = taken.map(chunk => Buffer.from(chunk.text).toString()).join('')
          expect(reader.end()).toBe(HELLO.text + expected)
        }
      },
    ),
    { numRuns: 50 },
  )
})

test('readers that had the same event last share the bytes of the next one', () => {
  const early = new Reader(HELLO)
  for (let count = 1; count <= 5; count += 1) early.take(event(count))
  const late = new Reader(new Chunk(':ok\nretry: 2000\n'))
  const [sixth, seventh] = [event(6), event(7)]
  expect(early.take(sixth)).not.toBe(late.take(sixth))
  expect(early.take(seventh)).toBe(late.take(seventh))
})

test('an event refers to the one before it, so that similar events take few bytes', () => {
  const reader = new Reader(HELLO)
  const first = reader.take(event(1000)).length
  const second = reader.take(event(1001)).length
  expect(second).toBeLessThan(first / 2)
})

describe('an event is compressed', () => {
  test('for no more than four others that readers had before it, and once for all the rest', () => {
    const readers = Array.from({ length: 100 }, (_, count) => {
      const reader = new Reader(HELLO)
      reader.take(event(count))
      return reader
    })
    const next = event(100)
    expect(new Set(readers.map(reader => reader.take(next))).size).toBe(5)
    for (const reader of readers) expect(reader.end()).toContain('"order":100,')
  })

  test('not at all if it is short, such as a heartbeat', () => {
    const reader = new Reader(HELLO)
    const heartbeat = new Chunk('event: sse.cursor\ndata: 15000\n\n')
    reader.take(event(1))
    const part = reader.take(heartbeat)
    expect(part.toString('latin1')).toContain(heartbeat.text)
    const other = new Reader(HELLO)
    other.take(event(2))
    expect(other.take(heartbeat)).toBe(part)
  })

  test('with a chunk header of the compressed size', () => {
    const { framed, plain, size } = event(1).gzip.after(undefined)
    expect(framed.toString('latin1')).toBe(
      `${size.toString(16)}\r\n${plain.toString('latin1')}\r\n`,
    )
  })
})
