/** `ctx.sse` has its documented members only, and hides the stream behind it. */
import { inspect } from 'node:util'
import type { EventStream } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { nextOpen } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

async function open(channels: string[] = []) {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, channels: () => channels })
  const opened = nextOpen(pool)
  const client = await connect(origin, '/?id=ada')
  return { pool, origin, client, stream: await opened }
}

/** The names of all properties that can be read. */
function membersOf(object: object): string[] {
  const names = new Set<string>()
  for (let at = object; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) names.add(name)
  }
  names.delete('constructor')
  return [...names].sort()
}

describe('what an app holds', () => {
  test('has the documented members, and no others', async () => {
    const { stream, pool } = await open()
    expect(membersOf(stream)).toEqual(
      [
        ...['bufferedBytes', 'channels', 'client', 'closed', 'id', 'isOpen', 'lastEventId'],
        ...['signal', 'state', 'comment', 'drained', 'end', 'join', 'leave', 'send', 'stream'],
        ...['rotate', 'toJSON'],
      ].sort(),
    )
    expect(membersOf(stream.client)).toEqual(['id', 'remove', 'send', 'streams'])
    expect(membersOf(pool.channel('news'))).toEqual([
      'add',
      'count',
      'name',
      'remove',
      'removeAll',
      'send',
      'size',
    ])
  })

  test('is the same object everywhere', async () => {
    const { pool, stream } = await open()
    expect(stream.client).toBe(pool.get('ada'))
    expect([...stream.client.streams]).toEqual([stream])
    expect(pool.get('ada')?.streams.has(stream)).toBe(true)
  })
})

describe('a stream knows', () => {
  test('whether it is open', async () => {
    const pool = testPool()
    const before: boolean[] = []
    const { origin } = await serveStreams({ pool }, ctx => void before.push(ctx.sse.isOpen))
    const opened = nextOpen(pool)
    await connect(origin, '/?id=ada')
    const stream = await opened
    expect(before).toEqual([false])
    expect(stream.isOpen).toBe(true)
    stream.end()
    expect(stream.isOpen).toBe(false)
  })

  test('its channels, in the order in which it joined them', async () => {
    const { pool, stream } = await open(['news', 'sports'])
    expect(stream.channels).toEqual(['news', 'sports'])
    stream.join('weather', 'news')
    expect(stream.channels).toEqual(['news', 'sports', 'weather'])
    stream.leave('sports')
    expect(stream.channels).toEqual(['news', 'weather'])
    expect(['news', 'sports', 'weather'].map(name => pool.channel(name).size)).toEqual([1, 0, 1])
  })
})

test('send() refuses a name with data behind it, which would send the name alone', async () => {
  const { stream, client } = await open()
  const send = stream.send.bind(stream) as (...args: unknown[]) => boolean
  const written = "ctx.sse.send(): an event is one argument; write { event: 'update', data: … }"
  expect(() => send('update', { count: 42 })).toThrow(new TypeError(written))
  expect(() => send({ data: 1 }, undefined)).toThrow('an event is one argument')
  send({ event: 'update', data: { count: 42 } })
  await client.until(({ data }) => data.length > 0)
  expect(client.messages).toMatchObject([{ event: 'update', data: '{"count":42}' }])
})

describe('inspecting (fault 96)', () => {
  async function openTwo() {
    const { pool, origin, stream } = await open(['news'])
    await connect(origin, '/?id=bob')
    await pool.send('bob', 'a secret for bob')
    stream.state = { user: 'Ada', role: 'admin' }
    return { pool, stream }
  }

  test.each<[string, (stream: EventStream) => unknown]>([
    ['a stream', stream => stream],
    ['its client', stream => stream.client],
    ['a context', stream => ({ sse: stream })],
  ])('%s shows its own id and state, and no other client’s entries', async (_, pick) => {
    const { stream } = await openTwo()
    const shown = [
      inspect(pick(stream), { depth: 8, showHidden: true }),
      JSON.stringify(pick(stream)),
    ]
    for (const text of shown) {
      expect(text).toContain('ada')
      expect(text).not.toContain('secret')
      expect(text).not.toContain('bob')
    }
  })

  test('a stream shows what the app has stored in its state', async () => {
    const { stream } = await openTwo()
    expect(inspect(stream)).toMatch(/^EventStream \{.*id: 'ada'.*role: 'admin'/s)
    expect(JSON.parse(JSON.stringify(stream))).toMatchObject({
      id: 'ada',
      isOpen: true,
      channels: ['news'],
      state: { user: 'Ada', role: 'admin' },
    })
  })

  test('never throws, whatever the app has stored in the state', async () => {
    const { stream } = await openTwo()
    const circular: Record<string, unknown> = { big: 1n }
    circular.self = circular
    stream.state = circular
    expect(JSON.parse(JSON.stringify(stream))).toEqual({
      id: 'ada',
      isOpen: true,
      channels: ['news'],
      lastEventId: '',
    })
    expect(inspect(stream)).toContain('[Circular')
  })

  test('a pool shows its size', async () => {
    const { pool } = await openTwo()
    const shown = inspect(pool, { depth: 8, showHidden: true })
    expect(shown).toBe('ClientPool { clients: 2, streams: 2, isReady: true }')
    expect(JSON.stringify(pool)).toBe('{"clients":2,"streams":2,"isReady":true}')
  })
})
