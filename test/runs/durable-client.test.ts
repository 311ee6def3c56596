/** `@durable-streams/client`, the protocol's own client, from end to end against `durableStreams()`. */
import { DurableStream, IdempotentProducer, StaleEpochError, stream } from '@durable-streams/client'
import { durableStreams, memoryRuns } from 'koa-sse-pool/runs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { deferred, serveApp } from '../helpers/app.js'

async function serve(longPollTimeout = 30_000) {
  const { origin, errors } = await serveApp(
    durableStreams({ store: memoryRuns(), longPollTimeout }),
  )
  onTestFinished(() => expect(errors).toEqual([]))
  return (name: string) => `${origin}/v1/stream/${name}`
}

test('creates, appends, reads, closes and deletes', async () => {
  const url = (await serve())('chat/7')
  const chat = await DurableStream.create({ url, contentType: 'application/json' })
  await chat.append(JSON.stringify({ n: 1 }))
  await Promise.all([2, 3].map(n => chat.append(JSON.stringify({ n }))))
  const page = await chat.stream<{ n: number }>({ live: false })
  expect((await page.json()).map(({ n }) => n).sort()).toEqual([1, 2, 3])

  const later = await stream<{ n: number }>({ url, offset: page.offset, live: false })
  expect(await later.json()).toEqual([])
  await chat.close({ body: JSON.stringify({ n: 4 }) })
  expect(await DurableStream.head({ url })).toMatchObject({ exists: true, streamClosed: true })
  const rest = await stream<{ n: number }>({ url, offset: page.offset, live: false })
  expect(await rest.json()).toEqual([{ n: 4 }])
  expect(rest.streamClosed).toBe(true)
  await expect(chat.append('5')).rejects.toThrow(/closed/i)
  await chat.delete()
  await expect(stream({ url, live: false })).rejects.toMatchObject({ status: 404 })
})

describe.each(['long-poll', 'sse'] as const)('live by %s', live => {
  test('follows JSON until the stream is closed', async () => {
    // A short limit, so that polls run into it.
    const url = (await serve(20))('a')
    const writer = await DurableStream.create({ url, contentType: 'application/json' })
    await writer.append('0')
    const response = await stream<number>({ url, live })
    const items: number[] = []
    let arrived = deferred()
    response.subscribeJson(async batch => {
      items.push(...batch.items)
      arrived.resolve()
    })
    for (let n = 1; n <= 20; n += 1) {
      await arrived.promise
      arrived = deferred()
      await writer.append(String(n))
    }
    await arrived.promise
    await writer.close()
    await response.closed
    expect(items).toEqual(Array.from({ length: 21 }, (_, n) => n))
  })

  test('follows bytes as they are', async () => {
    const url = (await serve())('a')
    const writer = await DurableStream.create({ url, contentType: 'application/octet-stream' })
    const parts = [Buffer.from([0, 255, 10, 13]), Buffer.from('😀'), Buffer.alloc(70_000, 7)]
    await writer.append(parts[0] as Buffer)
    const response = await stream({ url, live })
    const expected = Buffer.concat(parts)
    let received = Buffer.alloc(0)
    const [first, all] = [deferred(), deferred()]
    response.subscribeBytes(async chunk => {
      received = Buffer.concat([received, chunk.data])
      first.resolve()
      if (received.length >= expected.length) all.resolve()
    })
    await first.promise
    await writer.append(parts[1] as Buffer)
    await writer.close({ body: parts[2] as Buffer })
    // The client's `closed` may resolve before it has handed over the last chunk.
    await Promise.all([response.closed, all.promise])
    expect(received.equals(expected)).toBe(true)
  })

  test('goes on where it was after its connection was lost', async () => {
    const url = (await serve())('a')
    const writer = await DurableStream.create({ url, contentType: 'text/plain' })
    let text = ''
    let offset = '-1'
    for (const part of ['one ', 'two ', '  three\n', 'four']) {
      await writer.append(part)
      const response = await stream({ url, offset, live })
      const arrived = deferred()
      response.subscribeText(async chunk => {
        text += chunk.text
        offset = chunk.offset
        if (chunk.text !== '') arrived.resolve()
      })
      await arrived.promise
      response.cancel()
    }
    expect(text).toBe('one two   three\nfour')
  })
})

test('an idempotent producer appends each batch once, and an older one of the same name is fenced', async () => {
  const url = (await serve())('a')
  const handle = await DurableStream.create({ url, contentType: 'application/json' })
  let attempts = 0
  // Each request is made twice, as after an answer that was lost.
  const twice: typeof fetch = async (input, init) => {
    attempts += 1
    await (await fetch(input, init)).arrayBuffer()
    return fetch(input, init)
  }
  const producer = new IdempotentProducer(handle, 'worker', {
    epoch: 1,
    lingerMs: 1,
    fetch: twice,
    maxInFlight: 1,
  })
  for (let n = 0; n < 100; n += 1) {
    producer.append(JSON.stringify(n))
    if (n % 10 === 9) await producer.flush()
  }
  expect(attempts).toBeGreaterThan(5)

  const failure = deferred<Error>()
  const zombie = new IdempotentProducer(handle, 'worker', { epoch: 0, onError: failure.resolve })
  zombie.append('-1')
  await zombie.flush().catch(() => {})
  expect(await failure.promise).toBeInstanceOf(StaleEpochError)

  await producer.close(JSON.stringify(100))
  const response = await stream<number>({ url, live: false })
  expect(await response.json()).toEqual(Array.from({ length: 101 }, (_, n) => n))
  expect(response.streamClosed).toBe(true)
})
