import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import type { EventStream, PoolOptions } from 'koa-sse-pool'
import { EventSourceStream } from 'undici/lib/web/eventsource/eventsource-stream.js'
import { expect, test } from 'vitest'
import { encodeComment, encodePoolEvent, encodeStreamEvent } from '../../src/wire/event.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

/** Events in every run; `FUZZ_RUNS=1000000` is the nightly size. */
const FUZZ_RUNS = Number(process.env.FUZZ_RUNS ?? 20_000)
const EVENTS_PER_RUN = 20

const LIMITS = { serialize: JSON.stringify, maxEventBytes: 1024 * 1024 }

/** A stream with its client. Each test misuses it; nothing may be written, and the stream must stay usable. */
async function open(options?: PoolOptions) {
  const pool = testPool(options)
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  const [stream] = pool.get('ada')?.streams ?? []
  return { pool, client, stream: stream as EventStream }
}

/** A text as it arrives: the format cannot carry CR, and UTF-8 cannot carry a lone surrogate. */
const arriving = (text: string) => Buffer.from(text.replace(/\r\n|\r/g, '\n')).toString()

const BREAKS = ['\n', '\r', '\r\n']

const DATA = {
  LF: 'a\nb',
  CR: 'a\rb',
  CRLF: 'a\r\nb',
  'mixed breaks': 'a\r\r\n\n\rb',
  'trailing breaks': 'a\n\n\n',
  'leading breaks': '\r\n\na',
  'only a break': '\n',
  'a leading space': '  a\n b',
  'a leading colon': ':a\n:b',
  'a byte order mark': '\ufeffa\n\ufeff',
  'what looks like fields': 'a\ndata: b\nid: 7\nevent: close\n\nretry: 1\n\n',
  NUL: 'a\0b',
}

const UNICODE = {
  'U+2028': 'a\u2028b\u2029c',
  'U+0085': 'a\u0085b',
  'vertical tab and form feed': 'a\vb\fc',
  'a lone high surrogate': 'a\ud83db',
  'a lone low surrogate': 'a\ude00',
  'emoji and combining marks': '👩‍👩‍👧 é 🏴',
}

for (const field of ['event', 'id'] as const) {
  test(`a line break in ${field} is a TypeError and the stream continues (fault 1)`, async () => {
    const { client, stream, pool } = await open()
    for (const lineBreak of BREAKS) {
      const event = { data: 'forged', [field]: `a${lineBreak}data: b` } as { data: string }
      expect(() => stream.send(event)).toThrow(new RegExp(`^${field} `))
      if (field === 'event') expect(() => pool.send('ada', event)).toThrow(/^event /)
    }
    stream.send('after')
    await client.until(({ data }) => data.includes('after'))
    expect(client.text).not.toContain('data: b')
    expect(client.data).toEqual(['after'])
    expect(pool.stats().entries).toBe(0)
  })
}

test('NUL in an id is a TypeError (fault 2)', async () => {
  const { stream } = await open()
  expect(() => stream.send({ id: 'a\0b', data: '' })).toThrow(TypeError)
  expect(() => stream.send({ id: 'a\0b', data: '' })).toThrow(/^id /)
})

test('a non-ASCII id is a TypeError (fault 3)', async () => {
  const { stream } = await open()
  for (const id of ['é', '日本', '😀', '\u007f', '\ud800']) {
    expect(() => stream.send({ id, data: '' })).toThrow(/^id /)
  }
})

test('controls and invisible characters in names are a TypeError (fault 4)', async () => {
  const { pool, stream } = await open()
  const controls = [...Array(0x20).keys(), ...Array.from({ length: 0x21 }, (_, i) => 0x7f + i)]
  const invisible = [0x200b, 0x200e, 0x202a, 0x202e, 0x2028, 0x2066, 0x2069, 0xfeff, 0xd800]
  for (const code of [...controls, ...invisible]) {
    const name = `a${String.fromCharCode(code)}b`
    const what = `U+${code.toString(16)}`
    expect(() => stream.send({ event: name, data: '' }), what).toThrow(/^event /)
    expect(() => pool.broadcast({ event: name, data: '' }), what).toThrow(/^event /)
    expect(() => pool.channel(name), what).toThrow(/^channel /)
    expect(() => stream.join(name), what).toThrow(/^channel /)
  }
  expect(pool.stats().channels).toBe(0)
})

test('names may join letters and emoji by ZWJ and ZWNJ (fault 92)', async () => {
  const { pool, stream, client } = await open()
  // Persian "I want", Hindi "ksha" with a visible virama, and a family.
  const names = ['می\u200cخواهم', 'क्\u200dष', '👨\u200d👩\u200d👧']
  stream.join(...names)
  for (const name of names) {
    await pool.channel(name).send({ event: name, data: name })
    await client.event(name)
  }
  expect(client.data).toEqual(names)
})

for (const [fault, kind, samples] of [
  [5, 'line breaks and special beginnings', DATA],
  [6, 'unusual Unicode', UNICODE],
] as const) {
  for (const [what, data] of Object.entries(samples)) {
    test(`every parser returns data with ${what} as it was sent (fault ${fault})`, async () => {
      const frame = encodeStreamEvent({ event: 'news', data }, LIMITS)
      const expected = [{ event: 'news', id: undefined, data: arriving(data) }]
      expect(readByParser([Buffer.from(frame)])).toEqual(expected)
      expect(await readByUndici([Buffer.from(frame)])).toEqual([
        { event: 'news', id: '', data: arriving(data) },
      ])
    })
  }

  test(`data with ${kind} arrives over HTTP, sent directly and through the pool (fault ${fault})`, async () => {
    const { client, stream, pool } = await open()
    const all = Object.values(samples)
    for (const data of all) stream.send(data)
    for (const data of all) void pool.send('ada', data)
    stream.send('last')
    await client.until(({ data }) => data.includes('last'))
    expect(client.data).toEqual([...all, ...all, 'last'].map(arriving))
  })
}

test('empty data is dispatched as an event (fault 7)', async () => {
  const { client, stream, pool } = await open()
  stream.send('')
  stream.send({ event: 'named', data: '' })
  void pool.broadcast({ event: 'pooled', data: '' })
  await client.event('pooled')
  expect(client.messages.map(({ event, data }) => [event, data])).toEqual([
    [undefined, ''],
    ['named', ''],
    ['pooled', ''],
  ])
})

test('data that cannot be serialized is a TypeError and the stream continues (fault 8)', async () => {
  const { client, stream, pool } = await open()
  const cyclic: Record<string, unknown> = {}
  cyclic.self = cyclic
  for (const data of [undefined, () => {}, Symbol('s'), 1n, { big: 1n }, cyclic]) {
    expect(() => stream.send({ data })).toThrow(TypeError)
    expect(() => stream.send({ data })).toThrow(/^data /)
    expect(() => pool.broadcast({ data })).toThrow(/^data /)
  }
  for (const event of [undefined, null, 7, ['a'], () => {}]) {
    expect(() => stream.send(event as unknown as string)).toThrow(/^An event must be /)
  }
  stream.send('after')
  await client.until(({ data }) => data.length > 0)
  expect(client.data).toEqual(['after'])
  expect(pool.stats().entries).toBe(0)
})

test('id 0, an empty id and retry 0 are sent, not skipped (fault 9)', async () => {
  const { client, stream } = await open()
  stream.send({ id: 0, data: 'zero' })
  stream.send({ id: '', data: 'empty' })
  stream.send({ retry: 0, data: 'retry' })
  await client.until(({ data }) => data.length === 3)
  expect(client.messages.map(({ id }) => id)).toEqual(['0', '', undefined])
  expect(client.text).toContain('retry: 0\n')
})

test('a retry that browsers would ignore is a TypeError (fault 10)', async () => {
  const { stream, pool } = await open()
  for (const retry of [Number.NaN, -1, 1.5, 1e21, Number.POSITIVE_INFINITY, '3000', null]) {
    const event = { retry: retry as number, data: '' }
    expect(() => stream.send(event), String(retry)).toThrow(/^retry /)
    expect(() => pool.broadcast(event), String(retry)).toThrow(/^retry /)
  }
})

test('every line of a comment stays a comment (fault 11)', async () => {
  const { client, stream } = await open()
  stream.comment('a\ndata: forged\r\n\revent: x\r\rid: 1')
  stream.comment()
  stream.send('after')
  await client.until(({ data }) => data.length > 0)
  expect(client.data).toEqual(['after'])
  expect(client.comments).toEqual(['ok', 'a', 'data: forged', '', 'event: x', '', 'id: 1', ''])
  expect(() => stream.comment(7 as unknown as string)).toThrow(/^comment /)
})

test('a frame over maxEventBytes is a typed error and nothing is stored (fault 12)', async () => {
  const { client, stream, pool } = await open({ maxEventBytes: 100 })
  // Few characters and many bytes: the limit counts what goes over the wire.
  for (const data of ['a'.repeat(100), '日'.repeat(33), '\n'.repeat(20)]) {
    const tooLarge = expect.objectContaining({ code: 'ERR_SSE_EVENT_TOO_LARGE', name: 'SseError' })
    expect(() => stream.send(data)).toThrow(tooLarge)
    expect(() => pool.broadcast(data)).toThrow(tooLarge)
    expect(() => pool.remove('ada', data)).toThrow(tooLarge)
    expect(() => stream.end(data)).toThrow(tooLarge)
  }
  const largest = 'a'.repeat(100 - 'data: \n\n'.length)
  stream.send(largest)
  await pool.broadcast(largest)
  await client.until(({ data }) => data.length === 2)
  expect(client.data).toEqual([largest, largest])
  expect(pool.stats().entries).toBe(1)
})

test(
  `two independent parsers agree on ${FUZZ_RUNS} random events (fault 13)`,
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(randomEvent, SIZE), randomCuts, async (events, cuts) => {
        // Comments between events must not change them.
        const text = events
          .map(({ comment, ...event }) => encodeComment(comment) + encodeStreamEvent(event, LIMITS))
          .join('')
        const chunks = cut(Buffer.from(text), cuts)
        expect(readByParser(chunks)).toEqual(
          events.map(({ event, id, data }) => ({
            event: event || undefined,
            id: id === undefined ? undefined : String(id),
            data: arriving(data),
          })),
        )
        let lastId = ''
        expect(await readByUndici(chunks)).toEqual(
          events.map(({ event, id, data }) => {
            // Contrary to the standard, undici does not let an empty id reset the last one.
            if (id !== undefined && id !== '') lastId = String(id)
            return { event: event || 'message', id: lastId, data: arriving(data) }
          }),
        )
      }),
      { numRuns: Math.ceil(FUZZ_RUNS / EVENTS_PER_RUN) },
    )
  },
  60_000 + FUZZ_RUNS,
)

test(
  'random fields make a frame that is one event, or a TypeError (fault 13)',
  () => {
    const anything = fc.oneof(hostileText, fc.double(), fc.constant(undefined), fc.anything())
    const fields = fc.record({ event: anything, id: anything, retry: anything, data: anything })
    fc.assert(
      fc.property(fields, ({ id, ...event }) => {
        for (const encode of [
          () => encodeStreamEvent({ ...event, id }, LIMITS),
          () => encodePoolEvent(event, LIMITS),
        ]) {
          let frame: string
          try {
            frame = encode()
          } catch (error) {
            expect(error).toBeInstanceOf(TypeError)
            continue
          }
          const { length } = readByParser([Buffer.from(`${frame}data: end\n\n`)])
          expect(length).toBe(2)
        }
      }),
      { numRuns: Math.ceil(FUZZ_RUNS / 10) },
    )
  },
  60_000 + FUZZ_RUNS,
)

const SIZE = { minLength: EVENTS_PER_RUN, maxLength: EVENTS_PER_RUN }

const hostile = fc.constantFrom(
  ...['\n', '\r', '\r\n', ':', ' ', '\0', '\t', '\v', '\f', '\ufeff', '\u0085', '\u2028', '\u2029'],
  ...[
    '\ud83d',
    '\ude00',
    '😀',
    '\u200b',
    '\u202e',
    'é',
    'a',
    'data',
    'data: x',
    'id: 7',
    'event: b',
  ],
  ...['retry: 1', ': comment', '\n\n', '\r\r', '{"a":1}'],
)
const hostileText = fc
  .array(fc.oneof(hostile, fc.string({ unit: 'binary', maxLength: 3 })), { maxLength: 8 })
  .map(parts => parts.join(''))

/** Allowed names and ids. The property is that none of them produces an extra event. */
const printable = fc.string({ unit: 'grapheme-ascii', maxLength: 8 })
const notReserved = (text: string) => !text.startsWith('sse.')

const randomEvent = fc.record(
  {
    event: fc
      .oneof(
        printable,
        fc.constantFrom('data', ': x', ' lead', 'trail ', 'id: 7', 'é', '日本', '😀'),
      )
      .filter(notReserved),
    id: fc.oneof(
      printable.filter(notReserved),
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
    ),
    retry: fc.nat(),
    data: hostileText,
    comment: hostileText,
  },
  { requiredKeys: ['data', 'comment'] },
)

/** Where the bytes are split in transit, also inside multi-byte characters. */
const randomCuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 })

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  for (let from = 0; from < bytes.length; ) {
    const size = sizes[chunks.length % sizes.length] as number
    chunks.push(bytes.subarray(from, from + size))
    from += size
  }
  return chunks
}

interface Read {
  event: string | undefined
  id: string | undefined
  data: string
}

function readByParser(chunks: readonly Buffer[]): Read[] {
  const events: Read[] = []
  const parser = createParser({
    onEvent: ({ event, id, data }) => events.push({ event, id, data }),
    onError: error => {
      throw error
    },
  })
  const decoder = new TextDecoder()
  for (const chunk of chunks) parser.feed(decoder.decode(chunk, { stream: true }))
  return events
}

async function readByUndici(chunks: readonly Buffer[]): Promise<Read[]> {
  const parser = new EventSourceStream({ eventSourceSettings: { lastEventId: '' } })
  for (const chunk of chunks) parser.write(chunk)
  parser.end()
  const events: Read[] = []
  for await (const { type, options } of parser) {
    events.push({ event: type, id: options.lastEventId, data: options.data })
  }
  return events
}
