import { PassThrough } from 'node:stream'
import Koa from 'koa'
import koasse from 'koa-sse-pool/compat'
import koasse020 from 'koa-sse-stream'
import { expect, test, vi } from 'vitest'
import { answer, type Handler, serve, withoutTimers } from './serve.js'

/** What the client gets when the app sends these items and then ends. */
async function wire(factory: typeof koasse, items: unknown[], ...last: unknown[]) {
  const messages: string[] = []
  const handler: Handler = ctx => {
    ctx.sse.on('message', (frame: string) => messages.push(frame))
    // Copies, because 0.2.0 changes the objects it is given.
    for (const item of items) ctx.sse.send(structuredClone(item))
    ctx.sse.sendEnd(...last)
  }
  const { origin } = await serve(
    Koa,
    withoutTimers(() => factory()),
    handler,
  )
  return { text: (await answer(origin)).text, messages }
}

const wellFormed: [string, unknown][] = [
  ['a string', 'hello'],
  ['an empty string', ''],
  ['text with all kinds of line breaks', 'a\nb\rc\r\nd\n\n'],
  ['text beyond ASCII', 'žluťoučký 🐎'],
  ['all fields, in the order event, retry, id, data', { data: 'd', id: 7, retry: 5, event: 'e' }],
  ['an event without data', { event: 'e' }],
  ['an id without data', { id: 'é' }],
  ['a retry that is a string', { retry: '3000' }],
  ['no fields', {}],
  ['empty fields', { event: '', id: '', retry: null, data: 'd' }],
  ['a number as data', { data: 42 }],
  ['false as data', { data: false }],
  ['null as data', { data: null }],
  ['undefined as data', { event: 'e', data: undefined }],
  ['a name that the main API reserves', { event: 'sse.update', id: 'sse.1', data: 'd' }],
  ['an unknown field next to data', { data: 'd', more: 1 }],
  ['a comment', ': note'],
  ['a comment without a space', ':note'],
  ['a comment after blanks', ' \t : note'],
  ['an empty comment', ':'],
  ['a comment of two lines', ':one\ntwo\n\nfour'],
  ['a comment as data of an event', { event: 'e', data: ':note' }],
  ['a colon further in', 'data: x'],
]

test.each(wellFormed)(
  '%s is the same on the wire as with koa-sse-stream 0.2.0',
  async (_, item) => {
    const [ours, theirs] = await Promise.all([wire(koasse, [item]), wire(koasse020, [item])])
    expect(ours.text).toBe(theirs.text)
    expect(ours.messages).toEqual(theirs.messages)
  },
)

test('a whole session is the same on the wire as with koa-sse-stream 0.2.0', async () => {
  const items = wellFormed.map(([, item]) => item)
  for (const last of [[], [''], ['bye'], [{ event: 'over', data: 'bye' }]]) {
    const [ours, theirs] = await Promise.all([
      wire(koasse, items, ...last),
      wire(koasse020, items, ...last),
    ])
    expect(ours.text).toBe(theirs.text)
    expect(ours.messages).toEqual(theirs.messages)
  }
})

test('the first bytes are ": ok" and the last ones the close event', async () => {
  expect((await wire(koasse, [])).text).toBe(': ok\n\nevent: close\ndata: \n\n')
})

test('objects as data are JSON, Buffers are text, and numbers are sent (defect 6)', async () => {
  const { text } = await wire(koasse, [
    { event: 'update', data: { count: 1 } },
    { data: [1, 2] },
    { id: 7, name: 'Ada' },
    [1, 2],
    42,
    0,
    true,
    10n,
    new Date(0),
  ])
  expect(text.split('\n\n').slice(1, -2)).toEqual([
    'event: update\ndata: {"count":1}',
    'data: [1,2]',
    'data: {"id":7,"name":"Ada"}',
    'data: [1,2]',
    'data: 42',
    'data: 0',
    'data: true',
    'data: 10',
    'data: "1970-01-01T00:00:00.000Z"',
  ])
})

test('a Buffer is text, whether sent or used as data, and never a comment (defect 6)', async () => {
  const handler: Handler = ctx => {
    ctx.sse.send(Buffer.from(':ž'))
    ctx.sse.send({ event: 'e', data: new TextEncoder().encode('🐎') })
    ctx.sse.sendEnd(Buffer.from('bye'))
  }
  const { origin } = await serve(Koa, koasse(), handler)
  const { text } = await answer(origin)
  expect(text).toBe(': ok\n\ndata: :ž\n\nevent: e\ndata: 🐎\n\ndata: bye\n\n')
})

test('piped Buffers arrive, and a character split between two of them arrives whole (defect 6)', async () => {
  const [head, tail] = [Buffer.from('a🐎').subarray(0, 3), Buffer.from('a🐎b').subarray(3)]
  const handler: Handler = ctx => {
    const source = new PassThrough()
    source.pipe(ctx.sse)
    source.write(head)
    source.write(tail)
    // The rest of a broken character alone is not an event.
    source.write(Buffer.from('é').subarray(0, 1))
    source.end(Buffer.from('é').subarray(1))
  }
  const { origin } = await serve(Koa, koasse(), handler)
  expect((await answer(origin)).text).toBe(
    ': ok\n\ndata: a\n\ndata: 🐎b\n\ndata: é\n\nevent: close\ndata: \n\n',
  )
})

test('the rest of a broken character at the end is not lost silently (defect 6)', async () => {
  const handler: Handler = ctx => ctx.sse.end(void ctx.sse.write(Buffer.from([0xf0, 0x9f])))
  const { origin } = await serve(Koa, koasse(), handler)
  expect((await answer(origin)).text).toBe(': ok\n\ndata: �\n\nevent: close\ndata: \n\n')
})

test('id 0 and retry 0 are kept (defect 7)', async () => {
  const { text } = await wire(koasse, [{ id: 0, retry: 0, data: '' }])
  expect(text).toContain('\n\nretry: 0\nid: 0\ndata: \n\n')
})

test.each(['event', 'id', 'retry'])('%s cannot inject a line (defect 7)', async field => {
  const caught = vi.fn()
  const handler: Handler = ctx => {
    for (const evil of ['a\ndata: b', 'a\rb', 'a\r\n\r\nb', 'a\0b', { toString: () => 'a' }]) {
      for (const call of ['send', 'sendEnd', 'end']) {
        try {
          ctx.sse[call]({ [field]: evil, data: 'x' })
        } catch (error) {
          caught(error)
        }
      }
    }
    ctx.sse.sendEnd('still usable')
  }
  const { origin } = await serve(Koa, koasse(), handler)
  expect((await answer(origin)).text).toBe(': ok\n\ndata: still usable\n\n')
  expect(caught).toHaveBeenCalledTimes(15)
  expect(caught.mock.calls[0]?.[0]).toBeInstanceOf(TypeError)
  expect(caught.mock.calls[0]?.[0].message).toMatch(`${field} must be a string or a number`)
})

test('the caller’s object is not changed (defect 8)', async () => {
  const item = Object.freeze({ event: 'e', data: ' : a\r\nb', id: 1 })
  const nested = Object.freeze({ data: Object.freeze({ count: 1 }) })
  const handler: Handler = ctx => {
    ctx.sse.send(item)
    ctx.sse.send(nested)
    ctx.sse.sendEnd(item)
  }
  const { origin } = await serve(Koa, koasse(), handler)
  await answer(origin)
  expect(item).toEqual({ event: 'e', data: ' : a\r\nb', id: 1 })
})

test('null and undefined are events with empty data (defect 12)', async () => {
  const { text } = await wire(koasse, [null, undefined])
  expect(text).toBe(': ok\n\ndata: \n\ndata: \n\nevent: close\ndata: \n\n')
})
