import { describe, expect, test } from 'vitest'
import { checkName } from '../../src/lib/names.js'
import {
  Chunk,
  checkOneEvent,
  decodeFrame,
  encodeComment,
  encodeData,
  encodePoolEvent,
  encodeStreamEvent,
  isPoolFrame,
} from '../../src/wire/event.js'
import { closeFrame } from '../../src/wire/frames.js'

const LIMITS = { serialize: JSON.stringify, maxEventBytes: 1024 }

describe('a frame', () => {
  test('has its id last, so that a client cannot have the id before the data', () => {
    const event = { data: { count: 42 }, id: 7, retry: 3000, event: 'update' }
    expect(encodeStreamEvent(event, LIMITS)).toBe(
      'event: update\nretry: 3000\ndata: {"count":42}\nid: 7\n\n',
    )
  })

  test('has a string as its data unchanged, and other data as JSON', () => {
    expect(encodePoolEvent('text', LIMITS)).toBe('data: text\n\n')
    expect(encodePoolEvent({ data: 'text' }, LIMITS)).toBe('data: text\n\n')
    for (const data of [0, false, null, [], {}, 'text with "quotes"'] as const) {
      const text = typeof data === 'string' ? data : JSON.stringify(data)
      expect(encodePoolEvent({ data }, LIMITS)).toBe(`data: ${text}\n\n`)
    }
  })

  test('has one data line for each line of data', () => {
    expect(encodePoolEvent('a\r\nb\rc\n', LIMITS)).toBe('data: a\ndata: b\ndata: c\ndata: \n\n')
    expect(encodePoolEvent('\n', LIMITS)).toBe('data: \ndata: \n\n')
  })

  test('has no event line for an empty name, which means the default', () => {
    expect(encodePoolEvent({ event: '', data: 'x' }, LIMITS)).toBe('data: x\n\n')
    expect(encodePoolEvent({ event: undefined, data: 'x' }, LIMITS)).toBe('data: x\n\n')
  })

  test('does not show its key', () => {
    expect(encodePoolEvent({ data: 'x', key: 'k' }, LIMITS)).toBe('data: x\n\n')
    expect(() => encodePoolEvent({ data: 'x', key: 7 }, LIMITS)).toThrow(/^key must be a string/)
  })

  test('uses the serializer of the pool for everything but strings', () => {
    const serialize = (data: unknown) => `<${String(data)}>`
    expect(encodePoolEvent({ data: 7 }, { ...LIMITS, serialize })).toBe('data: <7>\n\n')
    expect(encodePoolEvent({ data: 'x' }, { ...LIMITS, serialize })).toBe('data: x\n\n')
  })

  test('keeps the cause when a serializer fails', () => {
    const cause = new Error('no')
    const serialize = () => {
      throw cause
    }
    const encode = () => encodePoolEvent({ data: {} }, { ...LIMITS, serialize })
    const message = 'data cannot be serialized: no'
    expect(encode).toThrow(expect.objectContaining({ name: 'TypeError', message, cause }))
  })

  test('may be exactly maxEventBytes long', () => {
    const data = 'é'.repeat((1024 - 'data: \n\n'.length) / 2)
    expect(Buffer.byteLength(encodePoolEvent(data, LIMITS))).toBe(1024)
    expect(() => encodePoolEvent(`${data}x`, LIMITS)).toThrow(
      expect.objectContaining({
        code: 'ERR_SSE_EVENT_TOO_LARGE',
        message: expect.stringContaining('1025 bytes; maxEventBytes allows 1024'),
      }),
    )
  })
})

test('a frame of the pool is known from others, and gives its fields back', () => {
  const event = { event: 'update', data: 'a\nb', retry: 3000 }
  const frame = encodePoolEvent(event, LIMITS)
  expect(isPoolFrame(frame)).toBe(true)
  expect(isPoolFrame(`${frame}${frame}`)).toBe(false)
  expect(decodeFrame(frame)).toStrictEqual(event)
  expect(decodeFrame('data: x\n\n')).toStrictEqual({ event: 'message', data: 'x' })
})

test('an object with "data" is an event, whatever else it is', () => {
  const event = Object.assign(new Map(), { data: 'x' })
  expect(encodePoolEvent(event, LIMITS)).toBe('data: x\n\n')
})

describe('an event is refused', () => {
  test('if its name comes alone, with an example that has the name only if it can be one', () => {
    for (const [name, shown] of [
      ['chat message', 'chat message'],
      ['x'.repeat(40), 'x'.repeat(40)],
      ['x'.repeat(41), 'update'],
      ['', 'update'],
      ["it's", 'update'],
      [7, 'update'],
    ] as const) {
      expect(() => checkOneEvent('send()', name, [{}])).toThrow(
        new TypeError(`send(): an event is one argument; write { event: '${shown}', data: … }`),
      )
    }
    expect(() => checkOneEvent('send()', 'text', [])).not.toThrow()
  })

  test('for a name that is not text, and the error names the field', () => {
    expect(() => encodePoolEvent({ event: 7, data: 1 }, LIMITS)).toThrow(
      new TypeError('event must be a string; got 7 (number)'),
    )
  })

  test('without data, also when a serializer would make text of undefined', () => {
    const own = { ...LIMITS, serialize: String }
    expect(() => encodePoolEvent({ event: 'x' }, own)).toThrow("Use '' for no data")
  })

  test('for a retry that browsers would ignore', () => {
    expect(encodePoolEvent({ data: 'x', retry: 0 }, LIMITS)).toBe('retry: 0\ndata: x\n\n')
    for (const [retry, described] of [
      [-1, '-1 (number)'],
      [1.5, '1.5 (number)'],
      [1e21, '1e+21 (number)'],
      ['3000', '"3000"'],
    ] as const) {
      const message = `retry must be a whole number of milliseconds, 0 or more; got ${described}`
      expect(() => encodePoolEvent({ data: 'x', retry }, LIMITS)).toThrow(new TypeError(message))
    }
  })

  test('with a suggestion of the field that was probably meant', () => {
    expect(() => encodePoolEvent({ dta: 1 }, LIMITS)).toThrow('did you mean "data"?')
    expect(() => encodeStreamEvent({ name: 1 }, LIMITS)).toThrow(/^Unknown event field "name"/)
  })

  test('for an id where the log assigns it, and for a key where there is no log', () => {
    expect(() => encodePoolEvent({ data: 1, id: 1 }, LIMITS)).toThrow('the log assigns it')
    expect(() => encodeStreamEvent({ data: 1, key: 'k' }, LIMITS)).toThrow(
      'only on events sent through the pool',
    )
  })

  test('for data that JSON would drop or turn into {}, and the error says what to send (fault 108)', () => {
    const query = Object.fromEntries([['then', () => {}]])
    for (const [data, described, cure] of [
      [Promise.resolve(1), 'a Promise', 'Await it'],
      [query, 'an object', 'Await it'],
      [() => 1, 'a function', 'Call it'],
      [new Map([['a', 1]]), 'a Map', 'Send Object.fromEntries(map)'],
      [new Set([1]), 'a Set', 'Send [...items]'],
      [new Map().values(), 'a Map Iterator', 'Send [...items]'],
      [new URLSearchParams('a=1'), 'an URLSearchParams', 'Send [...items]'],
      [(async function* () {})(), 'an AsyncGenerator', 'Send each item'],
      [Object.assign(new TypeError('no'), { code: 'E' }), 'an Error', 'Send error.message'],
      [undefined, 'undefined', "Use '' for no data"],
      [Symbol('s'), 'Symbol(s) (symbol)', "Use '' for no data"],
    ] as const) {
      const message = new TypeError(
        `data must be a string or something that serializes to one; got ${described}. ${cure}`,
      )
      expect(() => encodePoolEvent({ event: 'x', data }, LIMITS)).toThrow(message)
      expect(() => encodeStreamEvent({ data }, LIMITS)).toThrow(message)
      if (data !== undefined) expect(() => encodeData(data, LIMITS)).toThrow(message)
    }
  })

  test('if it is itself a Promise, a function or an Error (fault 108)', () => {
    for (const [event, described, cure] of [
      [Promise.resolve('x'), 'a Promise', 'Await it'],
      [() => 'x', 'a function', 'Call it'],
      [new Error('no'), 'an Error', 'Send error.message'],
      [7, '7 (number)', 'Wrap other data: { data: … }'],
      [[1], 'an array', 'Wrap other data: { data: … }'],
    ] as const) {
      const message = `An event must be a string or an object with "data"; got ${described}. ${cure}`
      expect(() => encodePoolEvent(event, LIMITS)).toThrow(new TypeError(message))
    }
  })

  test('only where JSON loses the data: not with a toJSON, fields, or a serializer (fault 108)', () => {
    class Page {
      items = [1];
      *[Symbol.iterator]() {
        yield 1
      }
    }
    const error = Object.assign(new Error('no'), { toJSON: () => 'told' })
    for (const [data, text] of [
      [new Date(0), '"1970-01-01T00:00:00.000Z"'],
      [error, '"told"'],
      [new Page(), '{"items":[1]}'],
      [JSON.parse('{"then":"a word"}'), '{"then":"a word"}'],
      [Object.create(null), '{}'],
      [[new Map()], '[{}]'],
    ] as const) {
      expect(encodePoolEvent({ data }, LIMITS)).toBe(`data: ${text}\n\n`)
    }
    const serialize = (data: unknown) => JSON.stringify([...(data as Map<string, number>)])
    const own = { ...LIMITS, serialize }
    expect(encodePoolEvent({ data: new Map([['a', 1]]) }, own)).toBe('data: [["a",1]]\n\n')
    expect(() => encodePoolEvent({ data: Promise.resolve(1) }, own)).toThrow('Await it')
  })

  test('for a key or a name of more than 256 characters (faults 73, 79)', () => {
    const longest = 'x'.repeat(256)
    expect(encodePoolEvent({ event: longest, key: longest, data: 1 }, LIMITS)).toContain(longest)
    expect(() => encodePoolEvent({ key: `${longest}x`, data: 1 }, LIMITS)).toThrow(
      new TypeError(
        'key must be a string of at most 256 characters; got a string of 257 characters',
      ),
    )
    for (const field of ['event', 'channel']) {
      expect(() => checkName(field, `${longest}x`)).toThrow(
        new TypeError(`${field} must have at most 256 characters; got a string of 257 characters`),
      )
    }
  })

  test('for a name or an id that the package reserves', () => {
    expect(() => encodeStreamEvent({ event: 'sse.gap', data: 1 }, LIMITS)).toThrow('reserved')
    expect(() => encodeStreamEvent({ id: 'sse.end', data: 1 }, LIMITS)).toThrow('reserved')
    expect(() => checkName('channel', 'sse.x')).toThrow(
      /^channel must not begin with "sse\." \(reserved\)/,
    )
    expect(checkName('channel', 'ssex')).toBe('ssex')
  })

  test('for an id that a client could not send back in a header', () => {
    for (const id of ['a\nb', 'a\0', 'é']) {
      const message = `id must consist of printable ASCII characters; got ${JSON.stringify(id)}`
      expect(() => encodeStreamEvent({ data: 1, id }, LIMITS)).toThrow(new TypeError(message))
    }
  })

  test('for an id that is neither a string nor a finite number', () => {
    for (const id of [Number.NaN, Number.POSITIVE_INFINITY, null, {}, 1n, true]) {
      expect(() => encodeStreamEvent({ data: 1, id }, LIMITS)).toThrow(/^id must be a string/)
    }
  })
})

test('every line of a comment is a comment', () => {
  expect(encodeComment('')).toBe(':\n')
  expect(encodeComment('a\rb\n\nc')).toBe(': a\n: b\n:\n: c\n')
})

test('the close event carries the id that keeps browsers away', () => {
  expect(closeFrame('close', encodeData(undefined, LIMITS))).toBe(
    'event: close\ndata: \nid: sse.end\n\n',
  )
  expect(closeFrame('bye', encodeData({ why: 'done' }, LIMITS))).toBe(
    'event: bye\ndata: {"why":"done"}\nid: sse.end\n\n',
  )
})

test('a long text is framed like a short one', () => {
  for (const length of [10, 16 * 1024 - 1, 16 * 1024, 100_000]) {
    const text = 'é'.repeat(length)
    const size = (2 * length).toString(16)
    expect(new Chunk(text).framed.toString()).toBe(`${size}\r\n${text}\r\n`)
  }
})

test('a chunk is framed by its bytes, not its characters, and only once', () => {
  const chunk = new Chunk('data: é\ud83d\n\n')
  const body = 'data: é\ufffd\n\n'
  expect(chunk.plain.toString()).toBe(body)
  expect(chunk.framed.toString()).toBe(`${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n`)
  expect(chunk.framed).toBe(chunk.framed)
  expect(chunk.plain).toBe(chunk.plain)
})
