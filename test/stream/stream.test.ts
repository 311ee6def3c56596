import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { EventStream, PoolOptions, StreamEvent } from 'koa-sse-pool'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.useRealTimers()
})

/** One open stream with its client, on a pool and a server of its own. */
async function openStream(options: PoolOptions = {}) {
  const pool = testPool(options)
  const streams: EventStream[] = []
  const { origin } = await serveStreams({ pool }, ctx => void streams.push(ctx.sse))
  const client = await connect(origin, '/?id=ada')
  const stream = streams[0] as EventStream
  return { pool, origin, stream, client }
}

/** A web stream of these items. The types of `ReadableStream.from` differ between Node and browsers. */
const webStream = <Item>(items: Item[]) =>
  new ReadableStream<Item>({
    start(controller) {
      for (const item of items) controller.enqueue(item)
      controller.close()
    },
  })

const has = (text: string) => (client: TestClient) => client.data.includes(text)
const turn = () => new Promise(resolve => setImmediate(resolve))

describe('send()', () => {
  test('takes strings and objects and reaches only this stream', async () => {
    const { stream, client, origin } = await openStream()
    const other = await connect(origin, '/?id=ada')
    expect(stream.send('text')).toBe(true)
    expect(stream.send({ data: { a: [1] } })).toBe(true)
    expect(stream.send({ event: 'update', data: '', id: 'x 1', retry: 0 })).toBe(true)
    stream.client.send('to both')
    for (const one of [client, other]) await one.until(has('to both'))
    expect(client.messages).toMatchObject([
      { data: 'text' },
      { data: '{"a":[1]}' },
      { event: 'update', data: '', id: 'x 1' },
      { data: 'to both' },
    ])
    expect(client.text).toContain('event: update\nretry: 0\ndata: \nid: x 1\n\n')
    expect(other.data).toEqual(['to both'])
  })

  test('keeps its place between earlier and later sends through the pool', async () => {
    const { pool, stream, client } = await openStream()
    void pool.broadcast('1')
    stream.send('2')
    void pool.send('ada', '3')
    stream.send('4')
    void pool.broadcast('5')
    await client.until(has('5'))
    expect(client.data).toEqual(['1', '2', '3', '4', '5'])
  })

  test('throws a TypeError for a wrong event, and the stream continues', async () => {
    const { stream, client } = await openStream()
    for (const wrong of [
      undefined,
      1,
      null,
      [],
      {},
      { data: undefined },
      { data: 'x', event: 'a\n' },
    ]) {
      expect(() => stream.send(wrong as StreamEvent)).toThrow(TypeError)
    }
    stream.send('goes on')
    await client.until(has('goes on'))
    expect(client.data).toEqual(['goes on'])
  })

  test('with an id of its own hides the cursor: heartbeats carry none from then on', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { pool, stream, client } = await openStream()
    await client.until(({ lastEventId }) => lastEventId !== '')
    stream.send({ id: 7, data: 'mine' })
    await pool.broadcast('theirs')
    await client.until(has('theirs'))
    const before = client.events.length
    vi.advanceTimersByTime(30_000)
    await client.until(({ events }) => events.length > before)
    expect(client.events.at(-1)).toMatchObject({ event: 'sse.cursor' })
    expect(client.lastEventId).toBe('7')
  })

  test('past maxBufferedBytes closes the stream as slow', async () => {
    const { stream, client } = await openStream({ maxBufferedBytes: 100_000 })
    client.response.pause()
    let sends = 0
    while (stream.send('x'.repeat(50_000)) || sends < 500) sends += 1
    expect(await stream.closed).toBe('slow')
    expect(stream.send('x')).toBe(false)
  })
})

describe('comment()', () => {
  test('adds no event, and every line of it stays a comment', async () => {
    const { stream, client } = await openStream()
    expect(stream.comment('one\ndata: two\r\nevent: three\rfour')).toBe(true)
    stream.comment()
    stream.send('end')
    await client.until(has('end'))
    expect(client.data).toEqual(['end'])
    expect(client.comments).toEqual(['ok', 'one', 'data: two', 'event: three', 'four', ''])
    expect(() => stream.comment(1 as unknown as string)).toThrow(/comment must be a string; got 1/)
  })
})

describe('stream()', () => {
  async function* letters(): AsyncGenerator<StreamEvent> {
    for (const data of ['a', 'b', 'c']) yield { event: 'letter', data }
  }
  const emoji = Buffer.from('a\u{1f600}ü')
  const bytes = [...emoji].map(byte => Buffer.of(byte))

  test.each<[string, () => Parameters<EventStream['stream']>[0], string]>([
    ['an array', () => ['a', { data: 'b' }, 'c'], 'abc'],
    ['a Set', () => new Set(['a', 'b', 'c']), 'abc'],
    ['an async generator', letters, 'abc'],
    ['an object stream', () => Readable.from(['a', 'b', 'c']), 'abc'],
    ['bytes of a Node stream', () => Readable.from(bytes), 'a\u{1f600}ü'],
    ['bytes of a web stream', () => webStream(bytes), 'a\u{1f600}ü'],
    ['a web stream', () => webStream(['a', 'b', 'c']), 'abc'],
    ['nothing', () => [], ''],
  ])('sends %s and leaves the event stream open', async (_, source, text) => {
    const { stream, client } = await openStream()
    await stream.stream(source())
    stream.send('end')
    await client.until(has('end'))
    expect(client.data.join('')).toBe(`${text}end`)
  })

  test('turns each item into an event with map', async () => {
    const { stream, client } = await openStream()
    await stream.stream([1, 2], n => ({ event: 'number', data: n }))
    await client.until(has('2'))
    expect(client.messages).toMatchObject([
      { event: 'number', data: '1' },
      { event: 'number', data: '2' },
    ])
  })

  test('decodes a character that is cut off at the end as a replacement character', async () => {
    const { stream, client } = await openStream()
    await stream.stream(Readable.from([Buffer.from('a'), emoji.subarray(1, 3)]))
    await client.until(has('\ufffd'))
    expect(client.data).toEqual(['a', '\ufffd'])
  })

  test.each<[string, string[], string[]]>([
    ['in the middle', ['a\ud83d', '\ude00b'], ['a', '😀b']],
    ['twice', ['\ud83d', '\ude00\ud83d', '\ude00'], ['😀', '😀']],
    ['around an empty item', ['a\ud83d', '', '\ude00'], ['a', '😀']],
    ['at the end', ['a\ud83d'], ['a', '\ufffd']],
  ])('joins a character whose string is cut %s (fault 91)', async (_, items, expected) => {
    const { stream, client } = await openStream()
    await stream.stream(items)
    await stream.stream(Readable.from(items))
    stream.send('last')
    await client.until(({ data }) => data.includes('last'))
    expect(client.data).toEqual([...expected, ...expected, 'last'])
  })

  test('sends an item of another kind after the half of a character that came before', async () => {
    const { stream, client } = await openStream()
    await stream.stream(['\ud83d', { event: 'e', data: 'x' }, Buffer.from('y')])
    await client.until(({ data }) => data.includes('y'))
    expect(client.data).toEqual(['\ufffd', 'x', 'y'])
  })

  describe('with a promise', () => {
    async function* failing() {
      yield 'before'
      throw new Error('source failed')
    }

    test('that nothing awaits, reports the error of its source and cuts the stream (fault 89)', async () => {
      const { pool, stream, client } = await openStream()
      const errors: unknown[] = []
      pool.on('error', error => errors.push(error))
      stream.stream(failing())
      expect(await client.ended).toBe(false)
      expect(client.data).toEqual(['before'])
      expect(errors).toEqual([new Error('source failed')])
    })

    test('that nothing awaits, reports a source of the wrong kind (fault 89)', async () => {
      const { pool, stream, client } = await openStream()
      const reported = new Promise(resolve => pool.on('error', resolve))
      stream.stream('text' as never)
      expect(await reported).toBeInstanceOf(TypeError)
      expect(await client.ended).toBe(false)
    })

    test.each<[string, (promise: Promise<void>) => Promise<unknown>]>([
      ['await', async promise => await promise],
      ['a return', async promise => promise],
      ['catch', promise => promise.catch(error => Promise.reject(error))],
      ['Promise.all', promise => Promise.all([promise])],
    ])('that the app handles by %s, reports nothing itself', async (_, hear) => {
      const { pool, stream } = await openStream()
      const reported = vi.fn()
      pool.on('error', reported)
      await expect(hear(stream.stream(failing()))).rejects.toThrow('source failed')
      await expect(hear(stream.stream('text' as never))).rejects.toThrow(TypeError)
      await new Promise(setImmediate)
      expect(reported).not.toHaveBeenCalled()
      expect(stream.isOpen).toBe(true)
    })
  })

  test.each(['a string', 5, null, undefined, {}])('refuses %o', async source => {
    const { stream } = await openStream()
    await expect(stream.stream(source as never)).rejects.toThrow(/^stream\(\) takes an iterable/)
  })

  test('rejects with the error of the source, of map or of send', async () => {
    const { stream, client } = await openStream()
    const boom = () => {
      throw new Error('boom')
    }
    const returned = vi.fn()
    async function* failing() {
      yield 'first'
      boom()
    }
    function* watched() {
      try {
        yield 'x'
        yield 'y'
      } finally {
        returned()
      }
    }
    await expect(stream.stream(failing())).rejects.toThrow('boom')
    await expect(stream.stream(watched(), boom)).rejects.toThrow('boom')
    await expect(stream.stream([undefined as never])).rejects.toThrow(TypeError)
    expect(returned).toHaveBeenCalledTimes(1)
    stream.send('still open')
    await client.until(has('still open'))
    expect(client.data).toEqual(['first', 'still open'])
  })

  test('reads no further ahead than the client does and loses nothing', async () => {
    const { pool, stream, client } = await openStream()
    client.response.pause()
    const total = 600
    const filler = 'x'.repeat(64 * 1024)
    let pulled = 0
    let mostWaiting = 0
    const streamed = stream.stream(
      (async function* () {
        while (pulled < total) {
          mostWaiting = Math.max(mostWaiting, stream.bufferedBytes)
          pulled += 1
          yield `${pulled} ${filler}`
        }
      })(),
    )
    while (pool.stats().lagging === 0) await turn()
    expect(stream.bufferedBytes).toBeGreaterThan(0)
    expect(pulled).toBeLessThan(total)
    let isDrained = false
    const drained = stream.drained().then(open => {
      isDrained = true
      return open
    })
    await turn()
    expect(isDrained).toBe(false)

    client.response.resume()
    expect(await drained).toBe(true)
    await streamed
    await client.until(({ data }) => data.length === total)
    expect(client.data.map(data => Number.parseInt(data, 10))).toEqual(
      Array.from({ length: total }, (_, i) => i + 1),
    )
    // The source was never asked for more while that much was still waiting.
    expect(mostWaiting).toBeLessThan(64 * 1024)
  })

  test('stops a generator when the client leaves, and resolves', async () => {
    const { stream, client } = await openStream()
    const stopped = deferred()
    const endless = async function* () {
      try {
        for (;;) {
          yield 'more'
          await turn()
        }
      } finally {
        stopped.resolve()
      }
    }
    const streamed = stream.stream(endless())
    await client.until(has('more'))
    client.close()
    await stopped.promise
    await streamed
  })

  test('stops a silent Node stream when the client leaves, and resolves', async () => {
    const { stream, client } = await openStream()
    const source = new Readable({ read() {} })
    const closed = once(source, 'close')
    const streamed = stream.stream(source)
    source.push('first')
    await client.until(has('first'))
    client.close()
    await closed
    await streamed
  })

  test('cancels a silent web stream when the client leaves, and resolves', async () => {
    const { stream, client } = await openStream()
    const cancelled = deferred()
    const source = new ReadableStream<string>({
      start: controller => controller.enqueue('first'),
      cancel: () => cancelled.resolve(),
    })
    const streamed = stream.stream(source)
    await client.until(has('first'))
    client.close()
    await cancelled.promise
    await streamed
  })

  test('resolves when the client leaves, even if the source hangs or fails afterwards', async () => {
    const { stream, client } = await openStream()
    const fail = deferred()
    const failed = deferred()
    const hanging = stream.stream(
      (async function* () {
        yield 'first'
        await new Promise(() => {})
      })(),
    )
    const next = async (): Promise<IteratorResult<string>> => {
      await fail.promise
      failed.resolve()
      throw new Error('nobody wants to know')
    }
    const failing = stream.stream({ [Symbol.asyncIterator]: () => ({ next }) })
    await client.until(has('first'))
    client.close()
    await Promise.all([hanging, failing])
    fail.resolve()
    await failed.promise
    await turn()
  })

  test('stops its source at once if the stream has already closed', async () => {
    const { stream } = await openStream()
    stream.end()
    const source = Readable.from(['a', 'b'])
    const closed = once(source, 'close')
    await stream.stream(source)
    await closed
  })
})

describe('drained()', () => {
  test('is true at once while there is room and false once closed', async () => {
    const { stream, client } = await openStream()
    expect(await stream.drained()).toBe(true)
    client.close()
    await stream.closed
    expect(await stream.drained()).toBe(false)
  })

  test('is false for callers that wait when the client leaves', async () => {
    const { stream, client } = await openStream({ maxBufferedBytes: 64 * 1024 * 1024 })
    client.response.pause()
    while (stream.send('x'.repeat(100_000)));
    const waiting = [stream.drained(), stream.drained()]
    client.close()
    expect(await Promise.all(waiting)).toEqual([false, false])
  })
})

describe('join() and leave()', () => {
  test('take several names, and nothing that was sent before the join arrives', async () => {
    const { pool, stream, client } = await openStream()
    await pool.channel('a').send('too early')
    expect(stream.join('a', 'b')).toBe(stream)
    stream.join('a')
    expect(pool.stats().channels).toBe(2)
    void pool.channel('a').send('to a')
    void pool.channel('b').send('to b')
    // This was sent while the stream was a member.
    expect(stream.leave('a', 'unknown')).toBe(stream)
    void pool.channel('a').send('too late')
    await pool.broadcast('end')
    await client.until(has('end'))
    expect(client.data).toEqual(['to a', 'to b', 'end'])
    stream.leave('b')
    expect(pool.stats().channels).toBe(0)
  })

  test('work in the handler, before the stream has opened', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool }, ctx => {
      ctx.sse.join('news')
      void pool.channel('news').send('hello')
    })
    const client = await connect(origin)
    await client.until(has('hello'))
  })

  test('do not stop except from leaving out a client by id', async () => {
    const { pool, stream, client, origin } = await openStream()
    stream.join('room')
    const bob = await connect(origin, '/?id=bob')
    ;[...(pool.get('bob')?.streams ?? [])][0]?.join('room')
    void pool.channel('room').send('from ada', { except: 'ada' })
    await pool.broadcast('end')
    for (const one of [client, bob]) await one.until(has('end'))
    expect(client.data).toEqual(['end'])
    expect(bob.data).toEqual(['from ada', 'end'])
  })

  test.each(['', 'a\nb', 'sse.x'])('refuse the name %j', async name => {
    const { pool, stream } = await openStream()
    expect(() => stream.join('fine', name)).toThrow(TypeError)
    expect(pool.stats().channels).toBe(0)
  })
})

describe('end()', () => {
  test.each<[string, unknown, string]>([
    ['no data', undefined, ''],
    ['text', 'done', 'done'],
    ['an object', { tokens: 3 }, '{"tokens":3}'],
    ['two lines', 'a\nb', 'a\nb'],
  ])(
    'sends the close event with %s, and the reconnect is answered with 204',
    async (_, data, text) => {
      const { pool, origin, stream, client } = await openStream()
      void pool.broadcast('before')
      stream.send('direct')
      stream.end(data)
      expect(stream.send('after')).toBe(false)
      stream.end('again')
      expect(await client.ended).toBe(true)
      expect(client.messages).toMatchObject([
        { data: 'before' },
        { data: 'direct' },
        { event: 'close', id: 'sse.end', data: text },
      ])
      expect(await stream.closed).toBe('end')
      expect(client.lastEventId).toBe('sse.end')
      await request(origin).get('/').set('Last-Event-ID', client.lastEventId).expect(204)
    },
  )

  test('with data that cannot be serialized is a TypeError, and the stream continues', async () => {
    const { stream, client } = await openStream()
    expect(() => stream.end(1n)).toThrow(TypeError)
    stream.send('goes on')
    await client.until(has('goes on'))
  })
})

describe('a stream', () => {
  test('exposes id, client, lastEventId and bufferedBytes', async () => {
    const { pool, stream } = await openStream()
    expect(stream.id).toBe('ada')
    expect(stream.client).toBe(pool.get('ada'))
    expect([...stream.client.streams]).toEqual([stream])
    expect(stream.lastEventId).toBe('')
    expect(stream.bufferedBytes).toBe(0)
  })

  test('has a state of its own, which belongs to the app', async () => {
    const { stream, origin, pool } = await openStream()
    stream.state.user = 'ada'
    expect(stream.state).toEqual({ user: 'ada' })
    stream.state = { role: 'admin' }
    expect(stream.state).toEqual({ role: 'admin' })
    await connect(origin, '/?id=bob')
    expect([...(pool.get('bob')?.streams ?? [])][0]?.state).toEqual({})
  })

  test('aborts its signal and resolves closed with the reason when the client leaves', async () => {
    const { stream, client } = await openStream()
    const { signal } = stream
    expect(stream.signal).toBe(signal)
    expect(signal.aborted).toBe(false)
    const aborted = once(signal, 'abort')
    client.close()
    await aborted
    expect(signal.reason).toMatchObject({
      name: 'AbortError',
      code: 'ERR_SSE_CLOSED',
      reason: 'client',
    })
    expect(await stream.closed).toBe('client')
  })

  test('has the right signal and closed even if they are first read after the close', async () => {
    const { stream, client } = await openStream()
    stream.end()
    await client.ended
    expect(stream.signal.aborted).toBe(true)
    expect(stream.signal.reason).toMatchObject({ code: 'ERR_SSE_CLOSED', reason: 'end' })
    expect(await stream.closed).toBe('end')
  })
})
