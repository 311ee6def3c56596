/** Runs and their readers. Two `Runs` over one store stand for two processes. */
import { type PollAnswer, SseError } from 'koa-sse-pool'
import {
  memoryRuns,
  type Run,
  type RunAppendable,
  type RunEvent,
  type RunStore,
  Runs,
} from 'koa-sse-pool/runs'
import { describe, expect, test, vi } from 'vitest'
import { deferred, nextOpen } from '../helpers/app.js'
import { serveRuns } from '../helpers/runs.js'
import { connect, type TestClient, testPool } from '../helpers/server.js'

type TestRun = Run<RunAppendable>

const letters = async (run: TestRun) => {
  for (const letter of 'abc') await run.append({ event: 'letter', data: letter })
}

/** A producer that appends what the test tells it to, until it is told to end. */
function directed() {
  const begun = deferred<TestRun>()
  const end = deferred()
  const producer = async (run: TestRun) => {
    begun.resolve(run)
    await end.promise
  }
  return { producer, run: begun.promise, end: end.resolve, fail: end.reject }
}

/** A store whose network is cut as soon as a run has begun. */
function afterCut(store: RunStore, { watch }: Pick<RunStore, 'watch'>): RunStore {
  const cut = async () => {
    throw new Error('The network is cut')
  }
  const create = store.create.bind(store)
  const close = async () => {}
  return {
    linger: 0,
    create,
    watch,
    close,
    append: cut,
    read: cut,
    get: cut,
    renew: cut,
    delete: cut,
  }
}

const aborted = (signal: AbortSignal) =>
  new Promise(resolve => signal.addEventListener('abort', () => resolve(signal.reason)))

const read = ({ messages }: TestClient) => messages.map(({ data }) => data)

describe('a run', () => {
  test('is read from its beginning, with offsets as ids, and closes when it has ended', async () => {
    const { runs, origin } = await serveRuns()
    expect(await runs.start('one', letters)).toMatchObject({ id: 'one', joined: false })
    const client = await connect(origin, '/runs/one')
    expect(await client.ended).toBe(true)
    expect(client.messages.map(({ event, data }) => [event, data])).toEqual([
      ['letter', 'a'],
      ['letter', 'b'],
      ['letter', 'c'],
      ['close', '{"state":"done"}'],
    ])
    const { length, offset, state } = (await runs.get('one')) ?? {}
    expect({ length, offset, state }).toEqual({
      length: 3,
      offset: client.messages[2]?.id,
      state: 'done',
    })
    const again = await connect(origin, '/runs/one', {
      headers: { 'Last-Event-ID': client.lastEventId },
    })
    expect(again.status).toBe(204)
  })

  test('is read live, and its reader gets a cursor before the first event', async () => {
    const { runs, origin } = await serveRuns()
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    const client = await connect(origin, '/runs/one')
    expect(await client.event('sse.cursor')).toMatchObject({ data: '15000' })
    await (await run).append('first')
    await client.until(({ data }) => data.includes('first'))
    end()
    await client.ended
    expect(read(client)).toEqual(['first', '{"state":"done"}'])
  })

  test('continues after the last event id, on any process', async () => {
    const store = memoryRuns()
    const one = await serveRuns({ store })
    const other = await serveRuns({ store })
    const { producer, run, end } = directed()
    await one.runs.start('one', producer)
    for (const letter of 'abc') await (await run).append(letter)
    const client = await connect(one.origin, '/runs/one')
    await client.until(({ data }) => data.length === 3)
    client.close()
    await (await run).append('d')
    end()
    const { id = '' } = client.messages[1] ?? {}
    const resumed = await connect(other.origin, '/runs/one', { headers: { 'Last-Event-ID': id } })
    await resumed.ended
    expect(read(resumed)).toEqual(['c', 'd', '{"state":"done"}'])
  })

  test('is not stopped by readers that leave', async () => {
    const { runs, pool, origin } = await serveRuns()
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    const client = await connect(origin, '/runs/one')
    const closed = new Promise(resolve => pool.on('close', (_, reason) => resolve(reason)))
    client.close()
    expect(await closed).toBe('client')
    expect((await run).signal.aborted).toBe(false)
    await (await run).append('still here')
    end()
    const late = await connect(origin, '/runs/one')
    await late.ended
    expect(read(late)).toEqual(['still here', '{"state":"done"}'])
  })

  test('is started once, however many ask for it at the same time', async () => {
    const store = memoryRuns()
    const processes = await Promise.all([serveRuns({ store }), serveRuns({ store })])
    const started: string[] = []
    const begin = (process: number) =>
      processes[process]?.runs.start('one', async run => {
        started.push(run.id)
        await run.append('x')
      })
    const all = await Promise.all([begin(0), begin(1), begin(0), begin(1)])
    expect(all.filter(one => one?.joined === false)).toHaveLength(1)
    expect(started).toEqual(['one'])
    const { runs } = processes[0]
    await vi.waitFor(async () => expect(await runs.get('one')).toMatchObject({ state: 'done' }))
    expect(await runs.start('one', letters)).toMatchObject({ joined: true, state: 'done' })
    await expect(runs.start('one', letters, { onDuplicate: 'reject' })).rejects.toMatchObject({
      code: 'ERR_SSE_RUN_EXISTS',
      status: 409,
    })
  })

  test('is started once even if the reply to that was lost', async () => {
    const store = memoryRuns()
    const create = store.create.bind(store)
    let calls = 0
    store.create = async (...args) => {
      const created = await create(...args)
      calls += 1
      if (calls === 1) throw new SseError('ERR_SSE_LOG_UNCERTAIN', 'The reply was lost')
      return created
    }
    const { runs, origin } = await serveRuns({ store })
    expect(await runs.start('one', letters)).toMatchObject({ joined: false })
    const client = await connect(origin, '/runs/one')
    await client.ended
    expect(read(client)).toEqual(['a', 'b', 'c', '{"state":"done"}'])
  })

  test('is stopped from another process: at once, once and twice', async () => {
    const store = memoryRuns()
    const one = await serveRuns({ store })
    const other = await serveRuns({ store })
    const { producer, run } = directed()
    await one.runs.start('one', producer)
    const reason = aborted((await run).signal)
    const client = await connect(one.origin, '/runs/one')
    expect(await other.runs.stop('one')).toBe(true)
    expect(await reason).toMatchObject({ code: 'ERR_SSE_RUN_ENDED', name: 'AbortError' })
    await client.ended
    expect(read(client)).toEqual(['{"state":"stopped"}'])
    expect(await other.runs.stop('one')).toBe(true)
    expect(await other.runs.stop('two')).toBe(false)
    await expect((await run).append('late')).rejects.toMatchObject({ code: 'ERR_SSE_RUN_ENDED' })
  })

  test('that fails says so, without the message of the error, which the pool emits', async () => {
    const { runs, pool, origin } = await serveRuns()
    const emitted = new Promise(resolve => pool.on('error', resolve))
    await runs.start('one', async run => {
      await run.append('begun')
      throw new Error('password: 1234')
    })
    const client = await connect(origin, '/runs/one')
    await client.ended
    expect(read(client)).toEqual(['begun', '{"state":"failed"}'])
    expect(await emitted).toMatchObject({ message: 'password: 1234' })
  })

  test('shows what onError returns', async () => {
    const { runs, pool, origin } = await serveRuns({ onError: (_, id) => `${id} has no model` })
    pool.on('error', () => {})
    await runs.start('one', () => {
      throw new Error('secret')
    })
    const client = await connect(origin, '/runs/one')
    await client.ended
    expect(read(client)).toEqual(['{"state":"failed","error":"one has no model"}'])
    expect(await runs.get('one')).toMatchObject({ state: 'failed', error: 'one has no model' })
  })

  test('is never a durable stream of the same store, whose entries are what any client has written', async () => {
    const store = memoryRuns()
    const { runs, origin } = await serveRuns({ store })
    await store.create('notes', { meta: '{}', entries: ['event: forged\ndata: 1\n\n'] })
    expect((await connect(origin, '/runs/notes')).status).toBe(204)
    expect(await runs.get('notes')).toBeUndefined()
    await expect(runs.read('notes').next()).rejects.toMatchObject({ code: 'ERR_SSE_RUN_UNKNOWN' })
    await expect(runs.start('notes', letters)).rejects.toMatchObject({ code: 'ERR_SSE_RUN_EXISTS' })
    expect([await runs.stop('notes'), await runs.delete('notes')]).toEqual([false, false])
    expect(await store.get('notes')).toMatchObject({ status: 'open', tail: 1 })
  })

  test('whose store has forgotten its end begins again for a reader that is ahead, with a gap', async () => {
    const { runs, origin } = await serveRuns()
    await runs.start('one', letters)
    await (await connect(origin, '/runs/one')).ended
    const { offset = '' } = (await runs.get('one')) ?? {}
    const ahead = offset.replace('0000000000000003', '0000000000000009')
    const client = await connect(origin, '/runs/one', { headers: { 'Last-Event-ID': ahead } })
    await client.ended
    expect(client.events[0]).toMatchObject({ event: 'sse.gap', data: '{"reason":"unknown"}' })
    expect(read(client)).toEqual(['a', 'b', 'c', '{"state":"done"}'])
  })

  test('is finished before runs.close() resolves, if its producer needs less than the timeout', async () => {
    const { runs } = await serveRuns({ store: memoryRuns() })
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    const closed = runs.close()
    await expect(runs.start('two', letters)).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
    await (await run).append('last words')
    end()
    await closed
    expect(await runs.get('one')).toMatchObject({ state: 'done', length: 1 })
  })

  test('is lost when runs.close() has waited for its producer in vain', async () => {
    const { runs } = await serveRuns()
    const { producer, run } = directed()
    await runs.start('one', producer)
    const reason = aborted((await run).signal)
    await runs.close({ timeout: 0 })
    expect(await reason).toMatchObject({ code: 'ERR_SSE_RUN_ENDED' })
    expect(await runs.get('one')).toMatchObject({ state: 'lost' })
  })

  test('takes nothing after its producer has returned', async () => {
    const { runs } = await serveRuns()
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    end()
    await vi.waitFor(async () => expect(await runs.get('one')).toMatchObject({ state: 'done' }))
    await expect((await run).append('late')).rejects.toMatchObject({ code: 'ERR_SSE_RUN_ENDED' })
    await expect((await run).flush()).resolves.toBeUndefined()
  })

  test('refuses a wrong event where it is appended', async () => {
    const { runs } = await serveRuns({ pool: { maxEventBytes: 100 } })
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    const { append } = await run
    await expect(append({ data: 1, key: 'a' } as never)).rejects.toThrow(/^key works only on/)
    await expect(append({ data: 1, ttl: 1 } as never)).rejects.toThrow(/^ttl works only on/)
    const volatile = append({ data: 1, volatile: true } as never)
    await expect(volatile).rejects.toThrow(/^volatile works only on/)
    await expect(append({ date: 1 } as never)).rejects.toThrow(/^Unknown event field "date"/)
    await expect(append('x'.repeat(200))).rejects.toMatchObject({ code: 'ERR_SSE_EVENT_TOO_LARGE' })
    end()
  })

  test('that is unknown is answered with 204, one that has expired with 410', async () => {
    const store = memoryRuns()
    const { origin, runs } = await serveRuns({ store, ttl: 1000 })
    expect((await connect(origin, '/runs/none')).status).toBe(204)
    await runs.start('one', letters)
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2000 })
    try {
      expect((await connect(origin, '/runs/one')).status).toBe(410)
      expect(await runs.get('one')).toBeUndefined()
      await expect(runs.start('one', letters)).rejects.toMatchObject({
        code: 'ERR_SSE_RUN_EXPIRED',
        status: 410,
      })
      vi.setSystemTime(Date.now() + 86_400_000)
      expect(await runs.start('one', letters)).toMatchObject({ joined: false })
    } finally {
      vi.useRealTimers()
    }
  })

  test('that is deleted ends for its readers and its producer, and can be started again', async () => {
    const { runs, origin } = await serveRuns()
    const { producer, run } = directed()
    await runs.start('one', producer)
    await (await run).append('old')
    const client = await connect(origin, '/runs/one')
    await client.until(({ data }) => data.includes('old'))
    const reason = aborted((await run).signal)
    expect(await runs.delete('one')).toBe(true)
    await client.ended
    expect(read(client)).toEqual(['old', '{"state":"deleted"}'])
    expect(await reason).toMatchObject({ code: 'ERR_SSE_RUN_ENDED' })
    expect(await runs.delete('one')).toBe(false)
    await runs.start('one', letters)
    const headers = { 'Last-Event-ID': client.messages[0]?.id }
    const again = await connect(origin, '/runs/one', { headers })
    await again.ended
    expect(again.events[0]).toMatchObject({ event: 'sse.gap', data: '{"reason":"unknown"}' })
    expect(read(again)).toEqual(['a', 'b', 'c', '{"state":"done"}'])
  })

  test('whose process gives no sign of life is lost within the lease, and its readers are told', async () => {
    const store = memoryRuns()
    const cutOff = afterCut(store, { watch: store.watch.bind(store) })
    const one = await serveRuns({ store: cutOff, lease: 1000 })
    one.pool.on('error', () => {})
    const other = await serveRuns({ store, lease: 1000 })
    const { producer, run } = directed()
    await one.runs.start('one', producer)
    const reason = aborted((await run).signal)
    const client = await connect(other.origin, '/runs/one')
    await client.ended
    expect(read(client)).toEqual(['{"state":"lost"}'])
    expect(await reason).toMatchObject({ code: 'ERR_SSE_RUN_ENDED' })
  })

  test('aborts its producer when the store has not confirmed for longer than the lease', async () => {
    const store = memoryRuns()
    const cutOff = afterCut(store, { watch: () => () => {} })
    const { runs, pool } = await serveRuns({ store: cutOff, lease: 1000 })
    pool.on('error', () => {})
    const { producer, run } = directed()
    await runs.start('one', producer)
    const { signal, append } = await run
    await append('never stored')
    expect(await aborted(signal)).toMatchObject({ code: 'ERR_SSE_RUN_ENDED' })
    await expect(append('late')).rejects.toMatchObject({ code: 'ERR_SSE_RUN_ENDED' })
  })

  test('keeps its lease for as long as its process lives, however quiet it is', async () => {
    const store = memoryRuns()
    const { runs } = await serveRuns({ store, lease: 1000 })
    const renewals: string[] = []
    const renew = store.renew.bind(store)
    const third = deferred()
    store.renew = async id => {
      renewals.push(id)
      if (renewals.length === 6) third.resolve()
      return renew(id)
    }
    const { producer, end } = directed()
    await runs.start('one', producer)
    await third.promise
    expect(await runs.get('one')).toMatchObject({ state: 'open' })
    end()
  })

  test('beyond maxLength loses its oldest events, and a late reader is told', async () => {
    const { runs, origin } = await serveRuns({ maxLength: 100 })
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    for (let i = 0; i < 10; i++) await (await run).append(`${i}`.repeat(20))
    await (await run).flush()
    end()
    const client = await connect(origin, '/runs/one')
    await client.ended
    expect(client.events[0]).toMatchObject({ event: 'sse.gap', data: '{"reason":"trimmed"}' })
    expect(client.data.at(-2)).toBe('9'.repeat(20))
    expect(client.data.length).toBeLessThan(8)
  })

  test('makes its producer wait while the store is slow', async () => {
    const store = memoryRuns()
    const append = store.append.bind(store)
    const gate = deferred()
    store.append = async (id, addition) => {
      await gate.promise
      return append(id, addition)
    }
    const { runs } = await serveRuns({ store })
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    const { append: appendOne } = await run
    let taken = 0
    const filling = (async () => {
      for (let i = 0; i < 40; i++) {
        await appendOne('x'.repeat(10_000))
        taken += 1
      }
    })()
    await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
    for (let i = 0; i < 100; i++) await new Promise(resolve => setImmediate(resolve))
    expect(taken).toBeLessThan(20)
    gate.resolve()
    await filling
    end()
    await vi.waitFor(async () => expect(await runs.get('one')).toMatchObject({ length: 40 }))
  })

  test('is stored once when replies are lost', async () => {
    const store = memoryRuns()
    const append = store.append.bind(store)
    let calls = 0
    store.append = async (id, addition) => {
      const appended = await append(id, addition)
      calls += 1
      if (calls % 2 === 1) throw new Error('The reply was lost')
      return appended
    }
    const { runs, pool, origin } = await serveRuns({ store })
    pool.on('error', () => {})
    await runs.start('one', async run => {
      for (const letter of 'abcdef') {
        await run.append(letter)
        await run.flush()
      }
    })
    const client = await connect(origin, '/runs/one')
    await client.ended
    expect(read(client)).toEqual([...'abcdef', '{"state":"done"}'])
  })
})

describe('a reader of a run is an ordinary stream', () => {
  test('that counts for maxClients', async () => {
    const { runs, origin } = await serveRuns({ pool: { maxClients: 1 } })
    const { producer } = directed()
    await runs.start('one', producer)
    await connect(origin, '/runs/one')
    expect((await connect(origin, '/runs/one')).status).toBe(503)
  })

  test('that pool.remove ends, and that pool events do not reach', async () => {
    const { runs, pool, origin } = await serveRuns({ stream: { identify: () => ({ id: 'ada' }) } })
    const { producer, run } = directed()
    await runs.start('one', producer)
    const client = await connect(origin, '/runs/one')
    await pool.broadcast('not for runs')
    await pool.send('ada', 'not for runs')
    await (await run).append('for runs')
    await client.until(({ data }) => data.includes('for runs'))
    await pool.remove('ada', { why: 'signed out' })
    await client.ended
    expect(read(client)).toEqual(['for runs', '{"why":"signed out"}'])
  })

  test('that authorize ends', async () => {
    const { runs, pool, origin } = await serveRuns({
      pool: { pingInterval: 1000, authorize: () => false },
    })
    const { producer } = directed()
    await runs.start('one', producer)
    const closed = new Promise(resolve => pool.on('close', (_, reason) => resolve(reason)))
    const client = await connect(origin, '/runs/one')
    await client.ended
    expect(await closed).toBe('expired')
  })

  test('that a closing pool drains, to resume elsewhere', async () => {
    const { runs, pool, origin } = await serveRuns()
    const { producer, run } = directed()
    await runs.start('one', producer)
    await (await run).append('a')
    const client = await connect(origin, '/runs/one')
    await client.until(({ data }) => data.includes('a'))
    await pool.close()
    expect(await client.ended).toBe(true)
    expect(client.text).toMatch(/retry: \d+\n$/)
    expect(read(client)).toEqual(['a'])
  })

  test('that gets heartbeats', async () => {
    const { runs, origin } = await serveRuns({ pool: { pingInterval: 1000 } })
    const { producer } = directed()
    await runs.start('one', producer)
    const client = await connect(origin, '/runs/one')
    await client.until(
      ({ events }) => events.filter(({ event }) => event === 'sse.cursor').length > 1,
    )
    expect(client.lastEventId).toMatch(/^0{16}-/)
  })

  test('that may come by long polling', async () => {
    const { runs, origin } = await serveRuns({ stream: { longPoll: true } })
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    for (const letter of 'ab') await (await run).append({ event: 'letter', data: letter })
    await (await run).flush()
    const poll = async (cursor: string): Promise<PollAnswer> => {
      const headers = { Accept: 'application/json', ...(cursor && { 'Last-Event-ID': cursor }) }
      return (await fetch(`${origin}/runs/one`, { headers })).json() as Promise<PollAnswer>
    }
    const first = await poll('')
    const all = first.events.length === 0 ? await poll(first.cursor) : first
    expect(all.events.map(({ event, data }) => [event, data])).toEqual([
      ['letter', 'a'],
      ['letter', 'b'],
    ])
    const next = poll(all.cursor)
    await (await run).append('c')
    const { cursor, events } = await next
    expect(events).toMatchObject([{ event: 'message', data: 'c', id: cursor }])
    end()
    expect(await poll(cursor)).toMatchObject({
      cursor: 'sse.end',
      events: [{ event: 'close', data: '{"state":"done"}', id: 'sse.end' }],
    })
    expect(
      (await fetch(`${origin}/runs/one`, { headers: { 'Last-Event-ID': 'sse.end' } })).status,
    ).toBe(204)
  })

  test('that costs no memory while it is slow', async () => {
    const { runs, pool, origin } = await serveRuns({ maxLength: 64 * 1024 * 1024 })
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    const open = nextOpen(pool)
    const client = await connect(origin, '/runs/one')
    client.response.pause()
    const stream = await open
    const { append } = await run
    for (let i = 0; i < 2000; i++) await append(`${i} ${'x'.repeat(10_000)}`)
    await (await run).flush()
    expect(stream.bufferedBytes).toBeLessThan(2 * 1024 * 1024)
    client.response.resume()
    end()
    await client.ended
    expect(client.data.length).toBe(2001)
    expect(client.data.slice(0, -1).every((data, i) => data.startsWith(`${i} `))).toBe(true)
  })
})

describe('read', () => {
  test('iterates over a run to its end, from an offset on', async () => {
    const { runs } = await serveRuns()
    await runs.start('one', letters)
    const events: RunEvent[] = []
    for await (const event of runs.read('one')) events.push(event)
    expect(events.map(({ event, data }) => event + data)).toEqual(['lettera', 'letterb', 'letterc'])
    const rest: string[] = []
    for await (const { data } of runs.read('one', { offset: events[1]?.id })) rest.push(data)
    expect(rest).toEqual(['c'])
  })

  test('follows a run that is open, until it is aborted', async () => {
    const { runs } = await serveRuns()
    const { producer, run } = directed()
    await runs.start('one', producer)
    const controller = new AbortController()
    const got: string[] = []
    const reading = (async () => {
      for await (const { data } of runs.read('one', { signal: controller.signal })) {
        got.push(data)
        if (data === 'b') controller.abort()
      }
    })()
    for (const letter of 'abc') {
      await (await run).append(letter)
      await (await run).flush()
    }
    await reading
    expect(got).toEqual(['a', 'b'])
  })

  test('can be left while it waits for the next event', async () => {
    const { runs } = await serveRuns()
    const { producer } = directed()
    await runs.start('one', producer)
    const events = runs.read('one')
    const next = events.next()
    await events.return?.()
    expect(await next).toEqual({ done: true, value: undefined })
  })

  test('throws for a run that is unknown', async () => {
    const { runs } = await serveRuns()
    await expect(runs.read('none').next()).rejects.toMatchObject({ code: 'ERR_SSE_RUN_UNKNOWN' })
  })
})

describe('formats', () => {
  test('ui-messages: chunks without ids, [DONE], and a GET finds only a run that is open', async () => {
    const { runs, origin } = await serveRuns({ stream: { format: 'ui-messages' } })
    const { producer, run, end } = directed()
    await runs.start('one', producer)
    await (await run).append({ data: { type: 'text-delta', id: '1', delta: 'Hi' } })
    const client = await connect(origin, '/runs/one')
    expect(client.headers['x-vercel-ai-ui-message-stream']).toBe('v1')
    await client.until(({ data }) => data.length === 1)
    end()
    await client.ended
    expect(client.events).toEqual([
      { data: '{"type":"text-delta","id":"1","delta":"Hi"}' },
      { data: '[DONE]' },
    ])
    expect((await connect(origin, '/runs/one')).status).toBe(204)
    const post = await connect(origin, '/runs/one', { method: 'POST' })
    await post.ended
    expect(post.data).toHaveLength(2)
  })

  test.each([
    [
      'ui-messages',
      '{"type":"abort"}',
      '{"type":"error","errorText":"The answer was not finished"}',
    ],
    [
      'openai',
      undefined,
      '{"error":{"message":"The answer was not finished","type":"server_error"}}',
    ],
  ] as const)('%s: says that a run was stopped or has failed', async (format, stopped, failed) => {
    const { runs, pool, origin } = await serveRuns({ stream: { format } })
    pool.on('error', () => {})
    const { producer, run, fail } = directed()
    await runs.start('one', producer)
    const first = await connect(origin, '/runs/one')
    await runs.stop('one')
    await first.ended
    expect(first.data).toEqual([...(stopped ? [stopped] : []), '[DONE]'])
    await (await run).flush().catch(() => {})
    const other = directed()
    await runs.start('two', other.producer)
    const second = await connect(origin, '/runs/two')
    other.fail(new Error('secret'))
    await second.ended
    expect(second.data).toEqual([failed, '[DONE]'])
    fail(new Error('too late to matter'))
  })
})

describe('options', () => {
  const pool = testPoolOnce()

  test.each([
    [{}, /^Runs: option "pool" must be a ClientPool; got undefined/],
    [{ pool: 1 }, /^Runs: option "pool" must be a ClientPool; got 1/],
    [{ pool: true, tll: 1 }, /^Runs: unknown option "tll"; did you mean "ttl"\?/],
    [{ store: {} }, /^Runs: option "store" must be a RunStore such as memoryRuns\(\)/],
    [{ lease: 10 }, /^Runs: option "lease" must be whole milliseconds of at least 1000; got 10/],
  ])('%j is refused', (options, message) => {
    const given =
      'pool' in options || Object.keys(options).length === 0
        ? options
        : { pool: pool(), ...options }
    expect(() => new Runs(given as never)).toThrow(message)
  })

  test.each([
    [{}, /option "id" must be a function such as/],
    [
      { id: () => 'a', format: 'sse' },
      /option "format" must be 'events' or 'ui-messages' or 'openai'/,
    ],
    [{ id: () => 'a', replay: 'all' }, /option "replay" is decided by "format"; drop it/],
    [{ id: () => 'a', format: 'openai', longPoll: true }, /option "longPoll" needs ids/],
  ])('of stream(): %j is refused', (options, message) => {
    expect(() => new Runs({ pool: pool() }).stream(options as never)).toThrow(message)
  })

  test('a wrong id or producer is refused', async () => {
    const runs = new Runs({ pool: pool() })
    await expect(runs.start('', letters)).rejects.toThrow(
      /^runs.start\(\): the id must be a string/,
    )
    await expect(runs.start('a', 1 as never)).rejects.toThrow(
      /^runs.start\(\): the producer must be/,
    )
  })
})

function testPoolOnce() {
  return () => testPool()
}
