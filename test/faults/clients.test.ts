/**
 * Clients that others wrote, behind a proxy that cuts their connections in the middle of events.
 *
 * All but the first store the id of an event as soon as they have read its line, although the standard
 * (WHATWG HTML, 9.2.6) gives it effect only at the blank line.
 */
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { fetchEventSource } from '@microsoft/fetch-event-source'
import { EventSource } from 'eventsource'
import EventSource1 from 'eventsource1'
import EventSource2 from 'eventsource2'
import { EventSource as ExtendedEventSource } from 'extended-eventsource'
import type { PoolOptions } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { serveStreams, testPool } from '../helpers/server.js'

/** Starts a client that passes on the data of unnamed events. Returns what stops it. */
type Start = (url: string, onData: (data: string) => void) => () => void

interface SomeEventSource {
  onmessage: ((event: MessageEvent) => void) | null
  close(): void
}

function listenTo(source: SomeEventSource, onData: (data: string) => void): () => void {
  source.onmessage = ({ data }) => onData(data)
  return () => source.close()
}

function startFetchEventSource(url: string, onData: (data: string) => void): () => void {
  const controller = new AbortController()
  void fetchEventSource(url, {
    openWhenHidden: true,
    signal: controller.signal,
    // It passes on the events of all names.
    onmessage: ({ event, data }) => event.startsWith('sse.') || onData(data),
  })
  return () => controller.abort()
}

const startExtended: Start = (url, onData) =>
  listenTo(new ExtendedEventSource(url, { disableLogger: true }), onData)

/** Clients whose parser starts afresh on each connection. */
const CLEAN: [string, Start][] = [
  ['eventsource 4', (url, onData) => listenTo(new EventSource(url), onData)],
  ['@microsoft/fetch-event-source', startFetchEventSource],
  ['extended-eventsource', startExtended],
]

/** Clients that keep the lines of an event that was cut off, and put the next event's lines after them. */
const KEEPING: [string, Start][] = [
  ['eventsource 1', (url, onData) => listenTo(new EventSource1(url), onData)],
  ['eventsource 2', (url, onData) => listenTo(new EventSource2(url), onData)],
]

/**
 * A proxy that cuts its first connections, each after so many bytes of the response's body, and then no
 * more. `texts` is what it has passed on, by connection.
 */
async function cuttingProxy(port: number, cuts: readonly number[]) {
  const sockets = new Set<net.Socket>()
  const proxy = { url: '', texts: [] as string[] }
  const server = net.createServer(near => {
    const far = net.connect(port, '127.0.0.1')
    for (const socket of [near, far]) sockets.add(socket.on('error', () => {}))
    let rest = cuts[proxy.texts.length] ?? Number.POSITIVE_INFINITY
    const index = proxy.texts.push('') - 1
    let headers: Uint8Array | undefined = new Uint8Array()
    near.on('data', data => far.write(data))
    near.on('close', () => far.destroy())
    far.on('close', () => near.destroy())
    far.on('data', data => {
      let body = data
      if (headers !== undefined) {
        const start = Buffer.concat([headers, data])
        const end = start.indexOf('\r\n\r\n') + 4
        headers = end < 4 ? start : undefined
        if (headers !== undefined) return
        near.write(start.subarray(0, end))
        body = start.subarray(end)
      }
      const passed = body.subarray(0, rest)
      rest -= passed.length
      proxy.texts[index] += passed.toString()
      if (rest > 0) {
        near.write(passed)
        return
      }
      // Ended, not destroyed: a reset could discard bytes that the client has not read.
      near.end(passed)
      far.removeAllListeners('data').removeAllListeners('close').destroy()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/?id=ada`
  return proxy
}

/** A client behind such a proxy. It has its first cursor. */
async function open(start: Start, cuts: readonly number[], options: PoolOptions = {}) {
  const pool = testPool(options)
  const { port } = await serveStreams({ pool, retry: 1 })
  const proxy = await cuttingProxy(port, cuts)
  const received: string[] = []
  const stop = start(proxy.url, data => received.push(data))
  onTestFinished(stop)
  while (!/^id: .+\n/m.test(proxy.texts.join(''))) await turn()
  return { pool, proxy, received }
}

/** Sends the last event, and waits until it has arrived behind all cuts. */
async function finish({ pool, proxy, received }: Awaited<ReturnType<typeof open>>, cuts: number) {
  while (proxy.texts.length <= cuts) await turn()
  await pool.send('ada', 'last')
  while (!received.some(data => data.endsWith('last'))) await turn()
  return received
}

/** Where the connections are cut: nine places, and every byte of an event. */
const NINE = Array.from({ length: 9 }, (_, i) => 300 + 13 * i)
const EVERYWHERE = Array.from({ length: 45 }, (_, i) => 150 + i)

const SMALL = Array.from({ length: 200 }, (_, i) => `event ${`${i}`.padStart(3, '0')}`)

/** What a client receives of 200 small events, and the ends of what came before each cut. */
async function receiveSmall(start: Start, cuts: readonly number[]) {
  const opened = await open(start, cuts)
  await Promise.all(SMALL.map(data => opened.pool.send('ada', data)))
  const received = await finish(opened, cuts.length)
  return { received, texts: opened.proxy.texts.slice(0, cuts.length) }
}

/** The event of which only the last line feed is missing. */
const ALMOST_WHOLE = /data: (.+)\nid: .+\n$/
/** An event whose data is whole, and whose end is missing. */
const WITH_DATA = /data: .+\n(id.*\n?|i)?$/

// @microsoft/fetch-event-source takes these from the page, also when a test has finished.
vi.stubGlobal('window', globalThis)
vi.stubGlobal('document', { removeEventListener() {} })

describe.each([...CLEAN, ...KEEPING])('%s', (_, start) => {
  test.each([200, 100_000, 600_000])(
    'gets a large event once that is cut off after %i bytes (fault 97)',
    async bytes => {
      const large = 'x'.repeat(900_000)
      const opened = await open(start, [bytes])
      await opened.pool.send('ada', large)
      expect(await finish(opened, 1)).toEqual([large, 'last'])
    },
  )

  test('shows no empty event for comments, heartbeats by comment and retry (fault 98)', async () => {
    const opened = await open(start, [], { heartbeat: 'comment', pingInterval: 10 })
    const { pool, proxy } = opened
    const hasPinged = () => (proxy.texts.join('').match(/^:\n/gm) ?? []).length >= 3
    while (!hasPinged()) await turn()
    await pool.send('ada', 'first')
    for (const stream of pool.get('ada')?.streams ?? []) stream.comment('a comment')
    await pool.send('ada', { data: 'second', retry: 5 })
    expect(await finish(opened, 0)).toEqual(['first', 'second', 'last'])
  })
})

describe.each(CLEAN)('%s', (name, start) => {
  test('gets each of 200 small events once over nine cuts (fault 97)', async () => {
    const { received, texts } = await receiveSmall(start, NINE)
    expect(texts.filter(text => ALMOST_WHOLE.test(text))).toEqual([])
    expect(received).toEqual([...SMALL, 'last'])
  })

  test('gets each event once, wherever in an event the connection is cut (fault 97)', async () => {
    const { received, texts } = await receiveSmall(start, EVERYWHERE)
    // Nothing the server sends can prevent this loss: the client takes the id before the event.
    const lost = texts.map(text => ALMOST_WHOLE.exec(text)?.[1])
    expect(lost.some(data => data !== undefined)).toBe(true)
    const expected = SMALL.filter(data => name === 'eventsource 4' || !lost.includes(data))
    expect(received).toEqual([...expected, 'last'])
  })
})

describe.each(KEEPING)('%s', (_, start) => {
  test('gets all data, but joins an event that was cut off after its data with the next', async () => {
    const { received, texts } = await receiveSmall(start, EVERYWHERE)
    expect([...new Set(received.flatMap(data => data.split('\n')))]).toEqual([...SMALL, 'last'])
    const joined = received.filter(data => data.includes('\n'))
    const cutAfterData = texts.filter(text => WITH_DATA.test(text))
    expect(cutAfterData.length).toBeGreaterThan(0)
    expect(joined).toHaveLength(cutAfterData.length)
  })
})
