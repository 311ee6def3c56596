import { describe, expect, test } from 'vitest'
import { checkName } from '../../src/lib/names.js'
import {
  Chunk,
  encodeComment,
  encodeData,
  encodePoolEvent,
  encodeStreamEvent,
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
    expect(encode).toThrow(expect.objectContaining({ name: 'TypeError', cause }))
  })

  test('may be exactly maxEventBytes long', () => {
    const data = 'é'.repeat((1024 - 'data: \n\n'.length) / 2)
    expect(Buffer.byteLength(encodePoolEvent(data, LIMITS))).toBe(1024)
    expect(() => encodePoolEvent(`${data}x`, LIMITS)).toThrow(
      /1025 bytes; maxEventBytes allows 1024/,
    )
  })
})

describe('an event is refused', () => {
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

test('a chunk is framed by its bytes, not its characters, and only once', () => {
  const chunk = new Chunk('data: é\ud83d\n\n')
  const body = 'data: é\ufffd\n\n'
  expect(chunk.plain.toString()).toBe(body)
  expect(chunk.framed.toString()).toBe(`${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n`)
  expect(chunk.framed).toBe(chunk.framed)
  expect(chunk.plain).toBe(chunk.plain)
})
