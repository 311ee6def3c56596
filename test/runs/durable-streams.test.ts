/** What the conformance suite of Durable Streams leaves open, and what is this package's own. */
import { once } from 'node:events'
import http2 from 'node:http2'
import { bodyParser } from '@koa/bodyparser'
import cors from '@koa/cors'
import Koa from 'koa'
import mount from 'koa-mount'
import { SseError } from 'koa-sse-pool'
import {
  type DurableStreamsOptions,
  durableStreams,
  memoryRuns,
  type RunStore,
} from 'koa-sse-pool/runs'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { deferred, serveApp } from '../helpers/app.js'
import { connect2, session2 } from '../helpers/http2.js'
import { connect, listen, rawConnection, type TestClient } from '../helpers/server.js'

const TEXT = { 'Content-Type': 'text/plain' }
const JSON_TYPE = { 'Content-Type': 'application/json' }
const CLOSE = { 'Stream-Closed': 'true' }

type Headers = Record<string, string>

/** A server with durable streams, and the requests that tests make. */
async function serve(options: Partial<DurableStreamsOptions> = {}, ...before: Koa.Middleware[]) {
  const { store = memoryRuns() } = options
  const watches = countWatches(store)
  const served = await serveApp(...before, durableStreams({ ...options, store }))
  return {
    ...served,
    ...requests(`${served.origin}${options.prefix ?? '/v1/stream'}`),
    store,
    watches,
  }
}

function requests(root: string) {
  const send =
    (method: string) =>
    (name: string, headers: Headers = {}, body?: BodyInit) =>
      fetch(`${root}/${name}`, { method, headers, ...(body !== undefined && { body }) })
  return {
    root,
    put: send('PUT'),
    post: send('POST'),
    remove: send('DELETE'),
    head: send('HEAD'),
    get: (name: string, query = '', headers: Headers = {}) =>
      fetch(`${root}/${name}${query && `?${query}`}`, { headers }),
  }
}

/** Counts the watches, and lets tests wait for a number of them. */
function countWatches(store: RunStore) {
  let count = 0
  let changed = deferred()
  let onStop = () => {}
  const change = (by: number) => {
    count += by
    changed.resolve()
    changed = deferred()
  }
  const watch = store.watch.bind(store)
  store.watch = (...given) => {
    const stop = watch(...given)
    change(1)
    return () => {
      stop()
      change(-1)
      onStop()
    }
  }
  return {
    now: () => count,
    /** Calls the listener whenever a watch ends, until the returned function is called. */
    stopped: (listener: () => void) => {
      onStop = listener
      return () => {
        onStop = () => {}
      }
    },
    until: async (wanted: number) => {
      while (count !== wanted) await changed.promise
    },
  }
}

/** Counts the reads of a store. */
function countReads(store: RunStore): () => number {
  let count = 0
  const read = store.read.bind(store)
  store.read = (...given) => {
    count += 1
    return read(...given)
  }
  return () => count
}

const offsetOf = (response: { headers: { get(name: string): string | null } }) =>
  response.headers.get('stream-next-offset') as string

const follow = (root: string, name: string, offset = '-1') =>
  connect(root, `/${name}?live=sse&offset=${offset}`)

const controls = (client: TestClient) =>
  client.events.filter(({ event }) => event === 'control').map(({ data }) => JSON.parse(data))

const data = (client: TestClient) =>
  client.events.filter(({ event }) => event === 'data').map(event => event.data)

describe('options', () => {
  test.each([
    [{}, 'option "store" must be a store for runs, such as memoryRuns(); got undefined'],
    [{ store: new Map() }, 'option "store" must be a store for runs'],
    [{ store: memoryRuns(), prefix: 'v1' }, `option "prefix" must be a path that begins with '/'`],
    [
      { store: memoryRuns(), maxBodyBytes: 0 },
      'option "maxBodyBytes" must be a whole number of bytes',
    ],
    [
      { store: memoryRuns(), maxStreamLength: 0.5 },
      'option "maxStreamLength" must be a whole number',
    ],
    [{ store: memoryRuns(), longPollTimeout: '30s' }, 'write the number 30000'],
    [{ store: memoryRuns(), prefixes: '/' }, 'unknown option "prefixes"; did you mean "prefix"?'],
  ])('%o is refused with a TypeError that names it', (options, message) => {
    expect(() => durableStreams(options as DurableStreamsOptions)).toThrow(TypeError)
    expect(() => durableStreams(options as DurableStreamsOptions)).toThrow(message)
  })
})

describe('paths', () => {
  test('what is not below the prefix, and what is reserved for subscriptions, goes to the next middleware', async () => {
    const { origin } = await serveApp(durableStreams({ store: memoryRuns() }), ctx => {
      ctx.body = `next: ${ctx.path}`
    })
    for (const path of [
      '/',
      '/v1/stream',
      '/v1/stream/',
      '/v1/streams/a',
      '/v1/stream/__ds',
      '/v1/stream/__ds/x',
    ]) {
      expect(await (await fetch(origin + path)).text()).toBe(`next: ${path}`)
    }
    expect((await fetch(`${origin}/v1/stream/__dsx`)).status).toBe(404)
  })

  test.each(['/', '/streams', '/streams/'])('prefix %j', async prefix => {
    const { origin } = await serveApp(durableStreams({ store: memoryRuns(), prefix }))
    const { put, get } = requests(origin + prefix.replace(/\/$/, ''))
    const created = await put('a/b', TEXT, 'one')
    expect(created.status).toBe(201)
    expect(created.headers.get('location')).toBe(`${origin}${prefix.replace(/\/$/, '')}/a/b`)
    expect(await (await get('a/b')).text()).toBe('one')
  })

  test('behind koa-mount, Location and Stream-Forked-From have the whole path', async () => {
    const { origin } = await serveApp(
      mount('/api', mount('/x', durableStreams({ store: memoryRuns(), prefix: '/' }))),
    )
    const { put, get } = requests(`${origin}/api/x`)
    const created = await put('a', TEXT, 'one')
    expect(created.headers.get('location')).toBe(`${origin}/api/x/a`)
    expect((await put('b', { 'Stream-Forked-From': '/api/x/a' })).status).toBe(201)
    expect((await put('c', { 'Stream-Forked-From': '/a' })).status).toBe(404)
    expect(await (await get('b')).text()).toBe('one')
  })

  test('two spellings of a path are two streams', async () => {
    const { put, head, store } = await serve()
    await put('a%2Fb', TEXT)
    expect((await head('a/b')).status).toBe(404)
    expect(await store.get('a%2Fb')).toBeDefined()
  })

  test('a run that was not created here is no stream', async () => {
    const { put, post, get, head, remove, store } = await serve()
    for (const meta of ['', '{"durableStream":2}', '{"a":1}']) {
      await store.create(`run${meta.length}`, { meta, entries: ['secret'] })
      const name = `run${meta.length}`
      expect((await get(name)).status).toBe(404)
      expect((await head(name)).status).toBe(404)
      expect((await post(name, TEXT, 'x')).status).toBe(404)
      expect((await remove(name)).status).toBe(404)
      expect((await put(name, TEXT)).status).toBe(409)
      expect((await put('fork', { 'Stream-Forked-From': `/v1/stream/${name}` })).status).toBe(404)
      expect((await store.get(name))?.tail).toBe(1)
    }
  })

  test('a method that is not known gets 405 with Allow', async () => {
    const { root } = await serve()
    const response = await fetch(`${root}/a`, { method: 'PATCH' })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('GET, HEAD, POST, PUT, DELETE, OPTIONS')
  })
})

describe('headers', () => {
  test('a page cannot run scripts of a stream that was created as text/html', async () => {
    const { put, get } = await serve()
    await put('a', { 'Content-Type': 'text/html' }, '<script>alert(1)</script>')
    const { headers } = await get('a')
    expect(headers.get('content-type')).toBe('text/html')
    expect(headers.get('content-security-policy')).toBe("sandbox; default-src 'none'")
  })

  test('headers that the app has set are kept', async () => {
    const { get } = await serve({}, (ctx, next) => {
      ctx.set('Cross-Origin-Resource-Policy', 'cross-origin')
      return next()
    })
    expect((await get('a')).headers.get('cross-origin-resource-policy')).toBe('cross-origin')
  })

  test('no other origin may read, unless a CORS middleware allows it', async () => {
    const closed = await serve()
    const open = await serve({}, cors())
    const headers = { Origin: 'https://app.example' }
    expect((await closed.get('a', '', headers)).headers.get('access-control-allow-origin')).toBe(
      null,
    )
    const { headers: allowed } = await open.get('a', '', headers)
    expect(allowed.get('access-control-allow-origin')).toBe('*')
    expect(allowed.get('access-control-expose-headers')).toContain('Stream-Next-Offset')
  })

  test('If-None-Match may be a list, weak or *', async () => {
    const { put, get } = await serve()
    await put('a', TEXT, 'one')
    const etag = (await get('a')).headers.get('etag') as string
    for (const tags of [etag, `"x", ${etag}`, `W/${etag}`, '*']) {
      expect((await get('a', '', { 'If-None-Match': tags })).status).toBe(304)
    }
    expect((await get('a', '', { 'If-None-Match': '"x"' })).status).toBe(200)
  })

  test('a fork that is created again at the same path has another ETag, though the offsets are the same', async () => {
    const { put, post, get, remove } = await serve()
    await put('source', TEXT)
    const fork = { 'Stream-Forked-From': '/v1/stream/source' }
    await put('fork', fork, 'one')
    const etag = (await get('fork')).headers.get('etag') as string
    await remove('fork')
    // The clock must have moved on.
    const before = Date.now()
    while (Date.now() === before);
    await put('fork', fork)
    await post('fork', TEXT, 'two')
    const again = await get('fork', '', { 'If-None-Match': etag })
    expect(again.status).toBe(200)
    expect(await again.text()).toBe('two')
  })

  test('only a page that cannot change any more may be reused without asking', async () => {
    const { put, post, get } = await serve()
    const created = await put('a', TEXT, 'x'.repeat(1024 * 1024))
    const first = `offset=${offsetOf(created)}`
    for (const _ of [1, 2]) await post('a', TEXT, 'y'.repeat(1024 * 1024))
    const cacheControl = async (query: string) =>
      (await get('a', query)).headers.get('cache-control')
    expect(await cacheControl(first)).toBe('private, max-age=60, stale-while-revalidate=300')
    expect(await cacheControl('offset=-1')).toBe('private, no-cache')
    await post('a', CLOSE)
    expect(await cacheControl(`offset=${offsetOf(await get('a', first))}`)).toBe(
      'private, no-cache',
    )
    expect(await cacheControl('offset=now')).toBe('no-store')
  })
})

describe('bodies', () => {
  test('bytes come back exactly, also when a character is split over two appends', async () => {
    const { put, post, get } = await serve()
    const parts = [
      Buffer.from('a'),
      Buffer.from([0xf0, 0x9f]),
      Buffer.from([0x98, 0x80]),
      Buffer.from('\ufeff\r\n\0'),
      Buffer.from([0xff, 0xc3, 0x28]),
    ]
    for (const type of ['text/plain', 'application/octet-stream', 'application/x-ndjson']) {
      const headers = { 'Content-Type': type }
      const name = type.replace('/', '-')
      const offsets = [offsetOf(await put(name, headers))]
      for (const part of parts) offsets.push(offsetOf(await post(name, headers, part)))
      expect(Buffer.from(await (await get(name)).arrayBuffer())).toEqual(Buffer.concat(parts))
      for (const [index, offset] of offsets.entries()) {
        const rest = await (await get(name, `offset=${offset}`)).arrayBuffer()
        expect(Buffer.from(rest)).toEqual(Buffer.concat(parts.slice(index)))
      }
    }
  })

  test('JSON comes back as it was written, with numbers that JavaScript cannot hold', async () => {
    const { put, post, get, store } = await serve()
    await put('a', JSON_TYPE, '[]')
    await post('a', JSON_TYPE, ' {"n": 12345678901234567890, "n": 1.0}\n')
    await post('a', JSON_TYPE, '\ufeff[ "a,]\\"", [1, [2]] ,{"b":[","]},\n"\\\\",null ]')
    expect(await (await get('a')).text()).toBe(
      '[{"n": 12345678901234567890, "n": 1.0},"a,]\\"",[1, [2]],{"b":[","]},"\\\\",null]',
    )
    const page = await store.read('a', 0, { entries: 9, length: 999 })
    expect(page?.entries.slice(2)).toEqual(['[1, [2]]', '{"b":[","]}', '"\\\\"', 'null'])
  })

  test.each(['{', '[1,]', '[1][2]', '"\ud800'])('JSON %j is refused with 400', async body => {
    const { put, post } = await serve()
    expect((await put('b', JSON_TYPE, body)).status).toBe(400)
    await put('a', JSON_TYPE)
    const response = await post('a', JSON_TYPE, body)
    expect(response.status).toBe(400)
    expect(await response.text()).toMatch(/^The body is not JSON: /)
    expect((await post('a', JSON_TYPE, Buffer.from([0x22, 0xff, 0x22]))).status).toBe(400)
  })

  test('a body that a parser has read is a clear error, and one of a type that it leaves alone is not', async () => {
    const { put, post } = await serve({}, bodyParser())
    expect((await put('a', TEXT)).status).toBe(201)
    expect((await post('a', TEXT, 'raw')).status).toBe(204)
    expect((await put('b', JSON_TYPE)).status).toBe(201)
    const response = await post('b', JSON_TYPE, '{}')
    expect(response.status).toBe(500)
    expect(await response.text()).toBe(
      'The request body was already read, probably by a body parser. Mount durableStreams() before it',
    )
    expect((await post('b', { ...JSON_TYPE, ...CLOSE })).status).toBe(204)
  })

  test('a body that is too large is refused with 413, whether or not it says so before', async () => {
    const { put, post, head, port } = await serve({ maxBodyBytes: 1000 })
    const tail = offsetOf(await put('a', TEXT, 'x'.repeat(1000)))
    expect((await post('a', TEXT, 'x'.repeat(1001))).status).toBe(413)
    expect((await put('b', TEXT, 'x'.repeat(1001))).status).toBe(413)
    const socket = await rawConnection(port)
    socket.write(
      'POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n',
    )
    socket.write(`3e9\r\n${'x'.repeat(1001)}\r\n`)
    const [answer] = await once(socket, 'data')
    expect(String(answer)).toMatch(/^HTTP\/1\.1 413 /)
    expect(offsetOf(await head('a'))).toBe(tail)
    expect((await head('b')).status).toBe(404)
  })

  test('an array of more than 100,000 messages is refused with 413, because a store adds them in one step', async () => {
    const { put, post, head } = await serve()
    const arrayOf = (count: number) => JSON.stringify(Array(count).fill([]))
    expect((await put('a', JSON_TYPE, arrayOf(100_000))).status).toBe(201)
    const appended = await post('a', JSON_TYPE, arrayOf(100_000))
    expect(appended.status).toBe(204)
    const refused = await post('a', JSON_TYPE, arrayOf(100_001))
    expect(refused.status).toBe(413)
    expect(await refused.text()).toBe(
      'The array has more than 100000 messages; send them in several requests',
    )
    expect((await put('b', JSON_TYPE, arrayOf(100_001))).status).toBe(413)
    expect(offsetOf(await head('a'))).toBe(offsetOf(appended))
    expect((await head('b')).status).toBe(404)
    // In an array, it is one message.
    expect((await post('a', JSON_TYPE, `[${arrayOf(100_001)}]`)).status).toBe(204)
  })

  test('an upload that is cut off appends nothing', async () => {
    const { put, head, port } = await serve()
    const tail = offsetOf(await put('a', TEXT, 'x'))
    const socket = await rawConnection(port)
    socket.write(
      'POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nhalf',
    )
    socket.destroy()
    await once(socket, 'close')
    expect(offsetOf(await head('a'))).toBe(tail)
  })
})

describe('offsets', () => {
  test('an offset of a stream that was deleted and created again is 410', async () => {
    const { put, get, remove } = await serve()
    const first = offsetOf(await put('a', TEXT, 'one'))
    await remove('a')
    const second = offsetOf(await put('a', TEXT, 'two'))
    expect(first.length).toBe(second.length)
    for (const query of ['', '&live=long-poll', '&live=sse']) {
      expect((await get('a', `offset=${first}${query}`)).status).toBe(410)
    }
    expect((await get('a', `offset=${second}`)).status).toBe(200)
    const forked = { 'Stream-Forked-From': '/v1/stream/a', 'Stream-Fork-Offset': first }
    expect((await put('b', forked)).status).toBe(400)
  })

  test('an append does not go to a stream that was created again after it was checked', async () => {
    const { put, post, get, store } = await serve()
    await put('a', TEXT)
    const look = store.get.bind(store)
    store.get = async id => {
      const record = await look(id)
      const { meta } = record as NonNullable<typeof record>
      await store.delete(id)
      await store.create(id, { meta })
      return record
    }
    expect((await post('a', TEXT, 'x')).status).toBe(404)
    store.get = look
    expect(await (await get('a')).text()).toBe('')
  })

  test('before what is retained it is 410, and -1 reads from what is left', async () => {
    const { put, post, get } = await serve({ maxStreamLength: 25 })
    const beginning = offsetOf(await put('a', TEXT))
    const offsets: string[] = []
    for (const part of ['0', '1', '2', '3', '4']) {
      offsets.push(offsetOf(await post('a', TEXT, part.repeat(9))))
    }
    expect((await get('a', `offset=${beginning}`)).status).toBe(410)
    expect((await get('a', `offset=${offsets[0]}`)).status).toBe(410)
    expect((await get('a', `offset=${offsets[1]}&live=sse`)).status).toBe(410)
    expect(await (await get('a', `offset=${offsets[2]}`)).text()).toBe('333333333444444444')
    const all = await get('a', 'offset=-1')
    expect(await all.text()).toBe('333333333444444444')
    expect(offsetOf(all)).toBe(offsets[4])
    const forked = (offset: string) =>
      put(offset, { 'Stream-Forked-From': '/v1/stream/a', 'Stream-Fork-Offset': offset })
    expect((await forked(offsets[1] as string)).status).toBe(400)
    expect((await forked(offsets[2] as string)).status).toBe(201)
  })

  test('beyond the tail it is 410', async () => {
    const { put, get } = await serve()
    const offset = offsetOf(await put('a', TEXT, 'one')).replace('1-', '2-')
    expect((await get('a', `offset=${offset}`)).status).toBe(410)
  })

  test('a long stream is read in pages, each with the offset of the next', async () => {
    const { put, post, get } = await serve()
    await put('a', JSON_TYPE)
    const numbers = Array.from({ length: 25_000 }, (_, index) => index)
    await post('a', JSON_TYPE, JSON.stringify(numbers))
    const read: number[] = []
    let offset = '-1'
    let pages = 0
    for (let isOver = false; !isOver; pages += 1) {
      const page = await get('a', `offset=${offset}`)
      read.push(...(await page.json()))
      offset = offsetOf(page)
      isOver = page.headers.has('stream-up-to-date')
    }
    expect(read).toEqual(numbers)
    expect(pages).toBe(3)
  })
})

describe('creation', () => {
  test('a fork that inherits its lifetime and type is created again without them', async () => {
    const { put, head } = await serve()
    await put('a', { ...TEXT, 'Stream-TTL': '60' }, 'one')
    const fork = { 'Stream-Forked-From': '/v1/stream/a' }
    expect((await put('b', fork)).status).toBe(201)
    expect((await put('b', fork)).status).toBe(200)
    expect((await head('b')).headers.get('stream-ttl')).toBe('60')
    expect((await put('b', { ...fork, 'Stream-TTL': '60' })).status).toBe(409)
  })

  test('two spellings of one time are the same configuration', async () => {
    const { put } = await serve()
    const create = (time: string) => put('a', { ...TEXT, 'Stream-Expires-At': time })
    expect((await create('2999-01-01T12:00:00Z')).status).toBe(201)
    expect((await create('2999-01-01t13:00:00.000+01:00')).status).toBe(200)
    expect((await create('2999-01-01T12:00:01Z')).status).toBe(409)
    expect((await create('2999')).status).toBe(400)
  })

  test('of several requests that create a stream at once, one does', async () => {
    const { put, get } = await serve()
    const bodies = Array.from({ length: 20 }, (_, index) => `body ${index}`)
    const responses = await Promise.all(bodies.map(body => put('a', TEXT, body)))
    expect(responses.map(({ status }) => status).sort()).toEqual([...Array(19).fill(200), 201])
    expect(bodies).toContain(await (await get('a')).text())
  })

  test('a fork of a source that was created again meanwhile is refused', async () => {
    const { put, head, store } = await serve()
    await put('a', TEXT, 'one')
    const create = store.create.bind(store)
    store.create = async (id, creation) => {
      const { meta } = (await store.get('a')) as { meta: string }
      await store.delete('a')
      await create('a', { meta, entries: ['tother'] })
      return create(id, creation)
    }
    expect((await put('b', { 'Stream-Forked-From': '/v1/stream/a' })).status).toBe(409)
    expect((await head('b')).status).toBe(404)
  })

  test('a store that is out of reach is 503, and the app hears of it', async () => {
    const { put, get, errors, store } = await serve()
    await put('a', TEXT)
    const error = new SseError('ERR_SSE_LOG_DOWN', 'down')
    store.read = async () => {
      throw error
    }
    expect((await get('a')).status).toBe(503)
    expect(errors).toEqual([error])
  })
})

describe('live readers', () => {
  test('get the two halves of a split character in one event, and again after a reconnect', async () => {
    const { put, post, root } = await serve()
    await put('a', TEXT, 'a')
    const client = await follow(root, 'a')
    await client.until(() => data(client).length === 1)
    await post('a', TEXT, Buffer.from([0xf0, 0x9f]))
    await post('a', TEXT, Buffer.from([0x98]))
    // It has not got the half, so its offset is before it.
    const { streamNextOffset } = controls(client).at(-1)
    const resumed = await follow(root, 'a', streamNextOffset)
    await post('a', TEXT, Buffer.from([0x80, 0x62]))
    await client.until(() => data(client).length === 2)
    await resumed.until(() => data(resumed).length === 1)
    expect(data(client)).toEqual(['a', '😀b'])
    expect(data(resumed)).toEqual(['😀b'])
    expect(controls(client).at(-1)).toMatchObject({ upToDate: true })
  })

  test('get half a character when the stream is closed, and what is not UTF-8 at all without waiting for ever', async () => {
    const { put, post, root } = await serve()
    await put('a', TEXT, Buffer.from([0x61, 0xc3]))
    const closing = await follow(root, 'a')
    await closing.until(() => controls(closing).length === 1)
    expect(data(closing)).toEqual([])
    await post('a', CLOSE)
    await closing.ended
    expect(data(closing)).toEqual(['a\ufffd'])

    await put('b', TEXT)
    const garbage = await follow(root, 'b')
    for (const _ of [1, 2, 3, 4]) await post('b', TEXT, Buffer.from([0x61, 0xc3]))
    await garbage.until(() => data(garbage).join('') === 'a\ufffda\ufffda\ufffda\ufffd')
  })

  test('get lines that begin with spaces as they are', async () => {
    const { put, root } = await serve()
    const text = ' one\n  two\n\nthree: 3\n '
    await put('a', { ...TEXT, ...CLOSE }, text)
    const client = await follow(root, 'a')
    await client.ended
    expect(data(client)).toEqual([text])
    expect(controls(client)).toEqual([
      { streamNextOffset: expect.any(String), streamClosed: true, upToDate: true },
    ])
  })

  test('get all of a stream that is longer than a page, and what is appended meanwhile', async () => {
    const { put, post, root } = await serve()
    await put('a', JSON_TYPE)
    const numbers = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, index) => from + index)
    await post('a', JSON_TYPE, JSON.stringify(numbers(0, 25_000)))
    const client = await follow(root, 'a')
    await post('a', JSON_TYPE, JSON.stringify(numbers(25_000, 30_000)))
    await post('a', { ...JSON_TYPE, ...CLOSE }, '30000')
    await client.ended
    expect(data(client).flatMap(text => JSON.parse(text))).toEqual(numbers(0, 30_001))
    // All but the last say where to go on, and no two the same.
    expect(new Set(controls(client).map(control => control.streamNextOffset)).size).toBe(
      controls(client).length,
    )
  })

  test('that keep up cost the store no reads', async () => {
    const store = memoryRuns()
    const reads = countReads(store)
    const { put, post, root } = await serve({ store })
    await put('a', TEXT)
    const client = await follow(root, 'a')
    await client.until(() => controls(client).length === 1)
    await expect.poll(reads).toBe(2)
    for (const count of [1, 2, 3]) {
      await post('a', TEXT, 'x')
      await client.until(() => data(client).length === count)
    }
    expect(reads()).toBe(2)
  })

  test('that are slow cost an offset, not memory', async () => {
    const store = memoryRuns()
    const reads = countReads(store)
    const { put, post, port, head } = await serve({ store })
    await put('a', TEXT)
    const socket = await rawConnection(port)
    socket.pause()
    socket.write(
      'GET /v1/stream/a?offset=-1&live=sse HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    )
    for (let count = 0; count < 30; count += 1) await post('a', TEXT, 'x'.repeat(1024 * 1024))
    await post('a', CLOSE)
    // The kernel holds some of it, the response a page or two, and nobody has read the rest.
    expect(reads()).toBeLessThan(20)
    let received = 0
    socket.on('data', chunk => {
      received += chunk.length
    })
    socket.resume()
    await once(socket, 'close')
    expect(received).toBeGreaterThan(30 * 1024 * 1024)
    expect((await head('a')).headers.get('stream-closed')).toBe('true')
  })

  test('leave no watch behind, however they end, and no error when they leave', async () => {
    const { put, post, remove, get, root, watches, errors } = await serve({ longPollTimeout: 50 })
    await put('a', TEXT, 'one')
    // What is there already needs none.
    await get('a', 'offset=-1&live=long-poll')
    expect(watches.now()).toBe(0)

    // The time is up.
    expect((await get('a', 'offset=now&live=long-poll')).status).toBe(204)
    expect(watches.now()).toBe(0)

    // The client leaves.
    const events = await follow(root, 'a')
    await watches.until(1)
    events.close()
    await watches.until(0)

    // The stream is closed.
    const [ended, other] = await Promise.all([follow(root, 'a'), follow(root, 'a')])
    await watches.until(2)
    await post('a', CLOSE)
    expect(await ended.ended).toBe(true)
    expect(await other.ended).toBe(true)
    await watches.until(0)

    // It is deleted.
    await put('b', TEXT)
    const deleted = await follow(root, 'b')
    await watches.until(1)
    await remove('b')
    expect(await deleted.ended).toBe(true)
    await watches.until(0)
    expect(errors).toEqual([])
  })

  test('are cut off when the store fails, and the app hears of it', async () => {
    const { put, root, watches, errors, store } = await serve()
    await put('a', TEXT)
    const error = new SseError('ERR_SSE_LOG_DOWN', 'down')
    const read = store.read.bind(store)
    // The first read is that of the request, the second that of the reader once it watches.
    const reads = [read, () => Promise.reject(error)]
    store.read = (...given) => (reads.shift() ?? read)(...given)
    const client = await follow(root, 'a')
    expect(await client.ended).toBe(false)
    await watches.until(0)
    expect(errors).toEqual([error])
  })

  test('that leave during a long poll leave no watch behind', async () => {
    const { put, root, watches } = await serve({ longPollTimeout: 3_600_000 })
    await put('a', TEXT)
    const abort = new AbortController()
    const poll = fetch(`${root}/a?offset=now&live=long-poll`, { signal: abort.signal })
    await watches.until(1)
    abort.abort()
    await expect(poll).rejects.toThrow()
    await watches.until(0)
  })

  test('that left while the store was read leave no watch behind', async () => {
    const { put, root, watches, store, server } = await serve({ longPollTimeout: 3_600_000 })
    await put('a', TEXT)
    const read = store.read.bind(store)
    for (const live of ['long-poll', 'sse']) {
      const [reading, left, over] = [deferred(), deferred(), deferred()]
      store.read = async (...given) => {
        reading.resolve()
        await left.promise
        return read(...given)
      }
      server.once('request', (_, res) => res.once('close', left.resolve))
      const stop = watches.stopped(over.resolve)
      const abort = new AbortController()
      const request = fetch(`${root}/a?offset=-1&live=${live}`, { signal: abort.signal })
      await reading.promise
      abort.abort()
      await expect(request).rejects.toThrow()
      await over.promise
      stop()
      expect(watches.now()).toBe(0)
    }
  })

  test('by SSE are ended after a while, and go on with the next request', async () => {
    const { put, root, watches } = await serve()
    await put('a', TEXT, 'one')
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const client = await follow(root, 'a')
    await client.until(() => controls(client).length === 1)
    vi.advanceTimersByTime(54_000)
    expect(watches.now()).toBe(1)
    vi.advanceTimersByTime(2000)
    expect(await client.ended).toBe(true)
    expect(watches.now()).toBe(0)
    const next = await follow(root, 'a', controls(client)[0].streamNextOffset)
    await next.until(() => controls(next).length === 1)
    expect(data(next)).toEqual([])
  })

  test('over HTTP/2 get the same, and leave no watch behind', async () => {
    const store = memoryRuns()
    const watches = countWatches(store)
    const app = new Koa()
    app.use(durableStreams({ store }))
    const { origin } = await listen(http2.createServer(app.callback()))
    const session = session2(origin)
    const path = '/v1/stream/a'
    await put2(session, path)
    const { stream, client } = await connect2(session, `${path}?offset=-1&live=sse`)
    await client.until(() => data(client).length === 1)
    expect(data(client)).toEqual(['one'])
    await watches.until(1)
    stream.close(http2.constants.NGHTTP2_CANCEL)
    await watches.until(0)

    const second = await connect2(session, `${path}?offset=-1&live=sse`)
    await second.client.until(() => data(second.client).length === 1)
    second.stream.close(http2.constants.NGHTTP2_NO_ERROR)
    await watches.until(0)
  })

  test('end when the stream is deleted: a long poll with 404, or 410 if it has forks', async () => {
    const { put, remove, get, watches } = await serve()
    for (const [name, status] of [
      ['plain', 404],
      ['forked', 410],
    ] as const) {
      const tail = offsetOf(await put(name, TEXT, 'one'))
      if (status === 410) await put('fork', { 'Stream-Forked-From': `/v1/stream/${name}` })
      const poll = get(name, `offset=${tail}&live=long-poll`)
      await watches.until(1)
      expect((await remove(name)).status).toBe(204)
      expect((await poll).status).toBe(status)
    }
  })

  test('are not taken over by a stream that is created again', async () => {
    const { put, post, remove, root, watches } = await serve()
    await put('a', TEXT)
    const client = await follow(root, 'a')
    await watches.until(1)
    await Promise.all([remove('a'), put('a', TEXT, 'other')])
    await put('a', TEXT, 'other')
    await post('a', TEXT, 'more')
    expect(await client.ended).toBe(true)
    expect(data(client)).toEqual([])
  })

  test('a long poll that waited answers with what came, and an ETag', async () => {
    const { put, post, get, watches } = await serve()
    await put('a', TEXT, 'one')
    const poll = get('a', `offset=${offsetOf(await get('a'))}&live=long-poll`)
    await watches.until(1)
    await post('a', { ...TEXT, ...CLOSE }, 'two')
    const answer = await poll
    expect(await answer.text()).toBe('two')
    expect(answer.headers.get('stream-closed')).toBe('true')
    expect(answer.headers.get('etag')).toMatch(/:1:2:c"$/)
    expect(answer.headers.get('stream-cursor')).toMatch(/^\d+$/)
  })

  test('a value of live that is not known is 400', async () => {
    const { put, get } = await serve()
    await put('a', TEXT)
    expect((await get('a', 'offset=-1&live=true')).status).toBe(400)
  })
})

async function put2(session: http2.ClientHttp2Session, path: string): Promise<void> {
  const request = session.request({ ':method': 'PUT', ':path': path, 'content-type': 'text/plain' })
  request.end('one')
  request.resume()
  await once(request, 'close')
}

test('a client that pipelines and half-closes its connection still gets its answers', async () => {
  const { port } = await serve()
  const socket = await rawConnection(port)
  const request = (method: string, body: string) =>
    `${method} /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  let text = ''
  socket.on('data', chunk => {
    text += chunk
  })
  socket.end(request('PUT', 'one') + request('POST', 'two'))
  await once(socket, 'close')
  expect(text.match(/HTTP\/1\.1 (\d+)/g)).toEqual(['HTTP/1.1 201', 'HTTP/1.1 204'])
})
