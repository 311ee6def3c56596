/**
 * Two processes that serve the same durable streams: what is written on one is followed on the other, and changes
 * that both make at the same time exclude each other.
 */
import { DurableStream, IdempotentProducer, StaleEpochError, stream } from '@durable-streams/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { deferred } from '../helpers/app.js'
import {
  type DurableProcesses,
  engineNames,
  startDurableProcesses,
} from '../helpers/durable-processes.js'

let processes: DurableProcesses
let streams = 0

/** The URLs of a new stream on both processes, and on the proxy that alternates between them. */
function newStream() {
  streams += 1
  const path = `/v1/stream/${streams}`
  const [a, b] = processes.origins.map(origin => origin + path) as [string, string]
  return { path, a, b, either: processes.origin + path }
}

const JSON_TYPE = { 'Content-Type': 'application/json' }
const put = (url: string, headers: Record<string, string> = {}, body?: string) =>
  fetch(url, { method: 'PUT', headers: { ...JSON_TYPE, ...headers }, body: body ?? null })
const post = (url: string, headers: Record<string, string> = {}, body?: string) =>
  fetch(url, { method: 'POST', headers: { ...JSON_TYPE, ...headers }, body: body ?? null })
const statuses = async (requests: Promise<Response>[]) =>
  (await Promise.all(requests)).map(({ status }) => status)
const itemsOf = async (url: string) => (await fetch(url)).json()

/** Makes 20 requests of each kind at the same time, by turns on the two processes. */
function race(a: string, b: string, request: (url: string, number: number) => Promise<Response>) {
  return statuses(Array.from({ length: 20 }, (_, number) => request(number % 2 ? a : b, number)))
}

describe.each(engineNames)('with %s', engine => {
  beforeAll(async () => {
    processes = await startDurableProcesses(engine)
  })
  afterAll(async () => {
    await processes.stop()
    expect(processes.errors).toEqual([])
  })

  describe.each(['long-poll', 'sse'] as const)('live by %s', live => {
    test('a reader on one process follows what is appended on the other, until it is closed there', async () => {
      const { a, b } = newStream()
      const writer = await DurableStream.create({ url: a, contentType: 'application/json' })
      const response = await stream<number>({ url: b, live, offset: '-1' })
      const items: number[] = []
      let arrived = deferred()
      response.subscribeJson(async batch => {
        items.push(...batch.items)
        if (batch.items.length > 0) arrived.resolve()
      })
      for (let n = 0; n < 20; n += 1) {
        arrived = deferred()
        await writer.append(String(n))
        await arrived.promise
      }
      await writer.close()
      await response.closed
      expect(items).toEqual(Array.from({ length: 20 }, (_, n) => n))
    })

    test('each request may reach the other process', async () => {
      const { either } = newStream()
      const writer = await DurableStream.create({ url: either, contentType: 'application/json' })
      const response = await stream<number>({ url: either, live, offset: '-1' })
      const items: number[] = []
      response.subscribeJson(async batch => void items.push(...batch.items))
      for (let n = 0; n < 50; n += 1) writer.append(String(n)).catch(() => {})
      await writer.append('50')
      await writer.close()
      await response.closed
      await expect.poll(() => items).toEqual(Array.from({ length: 51 }, (_, n) => n))
    })

    test('a reader on one process notices that the stream is deleted on the other', async () => {
      const { a, b } = newStream()
      await put(a)
      const following = fetch(`${b}?offset=now&live=${live}`)
      if (live === 'sse') {
        const reader = ((await following).body as ReadableStream<Uint8Array>).getReader()
        await reader.read()
        expect((await fetch(a, { method: 'DELETE' })).status).toBe(204)
        while (!(await reader.read()).done);
        return
      }
      // Whether the poll is there before or after, it must be refused.
      expect((await fetch(a, { method: 'DELETE' })).status).toBe(204)
      expect((await following).status).toBe(404)
    })
  })

  test('an idempotent producer that reaches both processes appends each batch once, and is fenced on both', async () => {
    const { a, b, either } = newStream()
    const handle = await DurableStream.create({ url: either, contentType: 'application/json' })
    // Each request is made on both processes, as after an answer that was lost.
    const twice: typeof fetch = async (_input, init) => {
      const answers = await Promise.all([fetch(a, init), fetch(b, init)])
      return answers[0] as Response
    }
    const producer = new IdempotentProducer(handle, 'worker', {
      epoch: 1,
      lingerMs: 1,
      fetch: twice,
    })
    for (let n = 0; n < 100; n += 1) {
      producer.append(JSON.stringify(n))
      if (n % 10 === 9) await producer.flush()
    }
    const failure = deferred<Error>()
    const zombie = new IdempotentProducer(handle, 'worker', { epoch: 0, onError: failure.resolve })
    zombie.append('-1')
    await zombie.flush().catch(() => {})
    expect(await failure.promise).toBeInstanceOf(StaleEpochError)
    await producer.close()
    expect(await itemsOf(b)).toEqual(Array.from({ length: 100 }, (_, n) => n))
  })

  test('the largest array that is accepted is stored in one step, and read on the other process', async () => {
    const { a, b } = newStream()
    await put(a)
    const items = Array.from({ length: 100_000 }, (_, n) => n)
    expect((await post(a, {}, JSON.stringify([...items, 0]))).status).toBe(413)
    expect((await post(a, { 'Stream-Closed': 'true' }, JSON.stringify(items))).status).toBe(204)
    // Without `live`, the client would read the first page only.
    const response = await stream<number>({ url: b, live: 'long-poll' })
    expect((await response.json()).join()).toBe(items.join())
  })

  describe('changes on both processes at the same time', () => {
    test('one of them creates the stream, and all others find it', async () => {
      const { a, b } = newStream()
      const answers = await race(a, b, url => put(url, {}, '["created"]'))
      expect(answers.filter(status => status === 201)).toHaveLength(1)
      expect(answers.filter(status => status === 200)).toHaveLength(19)
      expect(await itemsOf(a)).toEqual(['created'])
    })

    test('of different configurations, one wins', async () => {
      const { a, b } = newStream()
      const answers = await race(a, b, (url, n) => put(url, { 'Stream-TTL': String(n + 100) }))
      expect(answers.filter(status => status === 201)).toHaveLength(1)
      expect(answers.filter(status => status === 409)).toHaveLength(19)
    })

    test('all appends are stored, each whole', async () => {
      const { a, b } = newStream()
      await put(a)
      await race(a, b, (url, n) => post(url, {}, JSON.stringify([n, n, n])))
      const items: number[] = await itemsOf(b)
      const bodies = Array.from({ length: 20 }, (_, at) => items.slice(3 * at, 3 * at + 3))
      expect(bodies.every(([first, ...rest]) => rest.every(item => item === first))).toBe(true)
      expect(bodies.map(([first]) => first).sort((x, y) => Number(x) - Number(y))).toEqual(
        Array.from({ length: 20 }, (_, n) => n),
      )
    })

    test('of appends with the same Stream-Seq, one is stored', async () => {
      const { a, b } = newStream()
      await put(a)
      const answers = await race(a, b, (url, n) => post(url, { 'Stream-Seq': '1' }, `${n}`))
      expect(answers.filter(status => status === 204)).toHaveLength(1)
      expect(answers.filter(status => status === 409)).toHaveLength(19)
      expect(await itemsOf(a)).toHaveLength(1)
    })

    test('the same append of a producer is stored once, and only in its newest epoch', async () => {
      const { a, b } = newStream()
      await put(a)
      const producer = (epoch: number) => ({
        'Producer-Id': 'worker',
        'Producer-Epoch': String(epoch),
        'Producer-Seq': '0',
      })
      const same = await race(a, b, url => post(url, producer(0), '"same"'))
      expect(same.filter(status => status === 200)).toHaveLength(1)
      expect(same.filter(status => status === 204)).toHaveLength(19)
      expect(await itemsOf(a)).toEqual(['same'])

      const epochs = await race(a, b, (url, n) => post(url, producer(n + 1), `${n + 1}`))
      const stored: number[] = (await itemsOf(b)).slice(1)
      // A greater epoch fences all lesser ones, so those that were stored are in order.
      expect(stored).toEqual([...stored].sort((x, y) => x - y))
      expect(stored.at(-1)).toBe(20)
      expect(epochs.filter(status => status === 200)).toHaveLength(stored.length)
      expect(epochs.filter(status => status === 403)).toHaveLength(20 - stored.length)
    })

    test('one of several closes wins, and nothing is appended after it', async () => {
      const { a, b } = newStream()
      await put(a)
      const answers = await race(a, b, (url, n) =>
        post(url, n % 4 < 2 ? { 'Stream-Closed': 'true' } : {}, `${n}`),
      )
      const items: number[] = await itemsOf(a)
      expect(answers.filter(status => status === 204)).toHaveLength(items.length)
      expect(answers.filter(status => status === 409)).toHaveLength(20 - items.length)
      const isClose = (n: number) => n % 4 < 2
      expect(items.map(isClose)).toEqual([...items.slice(1).map(() => false), true])
    })

    test('a fork shares what was there, or is refused because its source was deleted', async () => {
      const { a, b, path } = newStream()
      await put(a, {}, '[1, 2]')
      const answers = await race(a, b, (url, n) =>
        n === 10
          ? fetch(url, { method: 'DELETE' })
          : put(`${url}-fork-${n}`, { 'Stream-Forked-From': path }),
      )
      expect(answers[10]).toBe(204)
      for (const [n, status] of answers.entries()) {
        if (n === 10) continue
        expect([201, 404, 409]).toContain(status)
        const fork = await fetch(`${n % 2 ? b : a}-fork-${n}`)
        expect(fork.status).toBe(status === 201 ? 200 : 404)
        expect(status === 201 ? await fork.json() : []).toEqual(status === 201 ? [1, 2] : [])
      }
      // Its forks keep it from being created again.
      const isKept = answers.includes(201)
      expect((await put(b)).status).toBe(isKept ? 409 : 201)
    })

    test('one of several deletes finds the stream, and it can be created again', async () => {
      const { a, b } = newStream()
      await put(a, {}, '["old"]')
      const answers = await race(a, b, url => fetch(url, { method: 'DELETE' }))
      expect(answers.filter(status => status === 204)).toHaveLength(1)
      expect(answers.filter(status => status === 404)).toHaveLength(19)
      expect((await put(b, {}, '["new"]')).status).toBe(201)
      expect(await itemsOf(a)).toEqual(['new'])
    })
  })
})
