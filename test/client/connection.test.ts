/** One page with a stream of its own: transports, silence, refusals, pauses, gaps. */
import { beforeAll, describe, expect, test } from 'vitest'
import type { PoolEventSourceOptions } from '../../src/client/options.js'
import { buildClient, type LoadClient, type Tab, World } from './world.js'

let load: LoadClient
beforeAll(async () => {
  load = await buildClient()
})

async function open(options: PoolEventSourceOptions = {}) {
  const world = new World(load)
  const { server } = world
  const tab = world.openTab(options)
  await world.run()
  /** Lets every stream have what was sent. */
  const deliver = async () => {
    for (const stream of server.streams) while (server.write(stream, 100)) {}
    await world.run()
  }
  return { world, server, tab, deliver }
}

const statuses = ({ statuses }: Tab) => statuses.splice(0)
const asks = ({ requests }: { requests: readonly { cursor: string }[] }) =>
  requests.map(({ cursor }) => cursor)
const answer = (status: number, headers: Record<string, string> = {}) =>
  new Response(null, { status, headers })
const json = (body: object) =>
  new Response(JSON.stringify(body), { headers: { 'Content-Type': 'application/json' } })

describe('a stream', () => {
  test('is an EventSource to whoever looks at it', async () => {
    const { server, tab, deliver } = await open()
    const { source } = tab
    expect(source).toMatchObject({
      readyState: 1,
      status: 'live',
      withCredentials: false,
      url: 'http://site.test/events',
      lastEventId: server.tail,
    })
    const heard: string[] = []
    source.addEventListener('message', ({ data }) => heard.push(data))
    source.onerror = ({ type }) => void heard.push(type)
    server.send('one')
    await deliver()
    expect(heard).toEqual(['one'])
    expect(source.lastEventId).toBe(server.tail)
    source.close()
    expect(source.readyState).toBe(2)
    expect(server.streams).toEqual([])
    expect(heard).toEqual(['one'])
  })

  test('continues after a cut from where it was', async () => {
    const { world, server, tab, deliver } = await open()
    server.send('one')
    await deliver()
    statuses(tab)
    server.streams[0]?.cut()
    await world.run()
    expect(statuses(tab)).toEqual(['connecting'])
    server.send('two')
    await world.pass(1000)
    expect(statuses(tab)).toEqual(['behind'])
    await deliver()
    server.beat()
    await world.run()
    expect(statuses(tab)).toEqual(['live'])
    expect(tab.seen).toMatchObject([{ data: 'one' }, { data: 'two' }])
    expect(asks(server)).toEqual(['', '1-aaaa'])
  })

  test('begins after the id that the page has kept', async () => {
    const { server } = await open({ lastEventId: '7-aaaa' })
    expect(asks(server)).toEqual(['7-aaaa'])
  })

  test('connects once while its page loads: the `pageshow` of a new page interrupts no attempt', async () => {
    for (const options of [{}, { share: true }]) {
      const world = new World(load)
      const tab = world.openTab(options)
      while (world.server.requests.length === 0) await world.step(0)
      await world.show(tab)
      await world.run()
      expect(world.server.requests).toHaveLength(1)
      expect(tab.source.status).toBe('live')
    }
  })

  test('parses JSON if the page asks for it, and leaves what is none', async () => {
    const { server, tab, deliver } = await open({ json: true })
    const heard: unknown[] = []
    tab.source.onmessage = ({ data }) => heard.push(data)
    server.send('{"count":42}')
    server.send('plain')
    await deliver()
    expect(heard).toEqual([{ count: 42 }, 'plain'])
  })
})

describe('silence', () => {
  test('of two and a half heartbeats, as the server says how often they come, means a dead stream', async () => {
    const { world, server } = await open()
    await world.pass(37_000)
    expect(server.requests).toHaveLength(1)
    await world.pass(1000)
    expect(asks(server)).toEqual(['', '0-aaaa'])
  })

  test('is interrupted by every heartbeat and every event', async () => {
    const { world, server, deliver } = await open()
    for (let n = 0; n < 4; n++) {
      await world.pass(30_000)
      if (n % 2 === 0) server.beat()
      else server.send('an event')
      await deliver()
    }
    expect(server.requests).toHaveLength(1)
  })

  test('is judged by the option, if there is one', async () => {
    const { world, server } = await open({ pingInterval: 1000 })
    await world.pass(2600)
    expect(server.requests).toHaveLength(2)
  })

  test('is noticed at once when the machine wakes up', async () => {
    const { world, server, tab } = await open()
    world.freeze(tab)
    await world.pass(600_000)
    tab.isFrozen = false
    tab.page.dispatchEvent(new Event('online'))
    await world.run()
    await world.pass(1)
    expect(server.requests).toHaveLength(2)
  })

  test('means nothing while nobody says how often heartbeats come', async () => {
    const world = new World(load)
    world.server.interval = 0
    world.openTab({})
    await world.run()
    await world.pass(3_600_000)
    expect(world.server.requests).toHaveLength(1)
  })
})

describe('a server that does not let the page in', () => {
  test.each([204, 400, 403, 404, 410])('is not asked again after %i', async status => {
    const world = new World(load)
    world.server.respond = () => answer(status)
    const tab = world.openTab({})
    await world.run()
    await world.pass(600_000)
    expect(world.server.requests).toHaveLength(1)
    expect(tab.source.readyState).toBe(2)
    expect(tab.source.status).toBe(status === 204 ? 'ended' : 'refused')
  })

  test('with a type that is no event stream is not asked again', async () => {
    const world = new World(load)
    world.server.respond = () => new Response('<h1>', { headers: { 'Content-Type': 'text/html' } })
    const tab = world.openTab({})
    await world.run()
    expect(tab.source.status).toBe('refused')
  })

  test.each([408, 429, 500, 502, 503])(
    'is asked again after %i, with longer and longer pauses',
    async status => {
      const world = new World(load)
      world.server.respond = () => answer(status)
      const tab = world.openTab({})
      await world.pass(600_000)
      const { length } = world.server.requests
      // Half of 30 seconds each in the mean, as soon as the pauses are that long.
      expect(length).toBeGreaterThan(20)
      expect(length).toBeLessThan(80)
      expect(tab.statuses).toEqual(['offline'])
      world.server.respond = () => undefined
      await world.pass(30_000)
      expect(tab.source.status).toBe('live')
    },
  )

  test.each(['20', new Date(1_020_000).toUTCString()])(
    'is not asked before Retry-After: %s',
    async after => {
      const world = new World(load)
      world.now = Date.parse('1970-01-01T00:16:40Z')
      world.server.respond = () => answer(503, { 'Retry-After': after })
      world.openTab({})
      await world.pass(19_900)
      expect(world.server.requests).toHaveLength(1)
      await world.pass(1200)
      expect(world.server.requests).toHaveLength(2)
    },
  )

  test('gets a new token once, and then has refused', async () => {
    const world = new World(load)
    let token = 0
    world.server.respond = ({ headers }) =>
      headers.get('Authorization') === 'Bearer 2' ? undefined : answer(401)
    const headers = async () => ({ Authorization: `Bearer ${++token}` })
    const tab = world.openTab({ headers })
    await world.run()
    await world.pass(1)
    expect(tab.source.status).toBe('live')
    // The token has expired, and the next one is no better.
    world.server.streams[0]?.cut()
    await world.pass(2000)
    expect(tab.source.status).toBe('refused')
    expect(token).toBe(4)
  })

  test('by fixed headers is not asked again', async () => {
    const world = new World(load)
    world.server.respond = () => answer(401)
    const tab = world.openTab({ headers: { Authorization: 'Bearer 1' } })
    await world.pass(1000)
    expect(tab.source.status).toBe('refused')
    expect(world.server.requests).toHaveLength(1)
  })

  test('is asked again when the token cannot be fetched', async () => {
    let isBroken = true
    const { world, tab } = await open({
      headers: () => {
        if (isBroken) throw new Error('no network')
        return { Authorization: 'Bearer 1' }
      },
    })
    expect(tab.source.status).toBe('offline')
    isBroken = false
    await world.pass(5000)
    expect(tab.source.status).toBe('live')
  })
})

describe('the end', () => {
  test('by the close event is final', async () => {
    const { world, server, tab } = await open()
    const heard: string[] = []
    tab.source.addEventListener('close', ({ data, lastEventId }) => heard.push(data, lastEventId))
    tab.source.onerror = ({ type }) => void heard.push(type)
    server.streams[0]?.write('event: close\ndata: bye\nid: sse.end\n\n')
    await world.run()
    await world.pass(600_000)
    expect(heard).toEqual(['bye', 'sse.end', 'error'])
    expect(tab.source).toMatchObject({ status: 'ended', readyState: 2, lastEventId: '0-aaaa' })
    expect(server.requests).toHaveLength(1)
  })

  test('with a retry of the server brings the page back after exactly that time', async () => {
    const { world, server } = await open()
    server.streams[0]?.write('retry: 5000\n\n')
    server.streams[0]?.end()
    await world.run()
    await world.pass(4999)
    expect(server.requests).toHaveLength(1)
    await world.pass(1)
    expect(server.requests).toHaveLength(2)
  })

  test('of 100 streams by one cut is not followed by 100 requests at once', async () => {
    const world = new World(load)
    for (let n = 0; n < 100; n++) world.openTab({})
    await world.run()
    for (const stream of world.server.streams) stream.cut()
    await world.run()
    const perTenth: number[] = []
    for (let n = 0; n < 10; n++) {
      const before = world.server.requests.length
      await world.pass(100)
      perTenth.push(world.server.requests.length - before)
    }
    expect(Math.max(...perTenth)).toBeLessThan(25)
    expect(perTenth.reduce((a, b) => a + b)).toBe(100)
  })
})

describe('a gap', () => {
  const gap = 'event: sse.gap\ndata: {"reason":"trimmed"}\nid: 9-aaaa\n\n'

  test('is an event of two names, and moves the cursor', async () => {
    const { world, server, tab } = await open()
    const reasons: string[] = []
    tab.source.addEventListener('gap', ({ reason }) => reasons.push(reason))
    server.streams[0]?.write(gap)
    await world.run()
    expect(reasons).toEqual(['trimmed'])
    expect(tab.seen).toEqual([{ gap: 'trimmed', id: '9-aaaa' }])
  })

  test('holds back what follows until the page has fetched the state', async () => {
    let fetched: () => void = () => {}
    const { world, server, tab } = await open({
      onGap: () =>
        new Promise<void>(resolve => {
          fetched = resolve
        }),
    })
    server.streams[0]?.write(gap)
    server.streams[0]?.write('data: after\nid: a-aaaa\n\n')
    await world.run()
    expect(tab.source.status).toBe('behind')
    expect(tab.seen).toEqual([{ gap: 'trimmed', id: '9-aaaa' }])
    fetched()
    await world.run()
    await world.pass(0)
    expect(tab.source.status).toBe('live')
    expect(tab.seen).toMatchObject([{ gap: 'trimmed' }, { data: 'after' }])
    expect(tab.source.lastEventId).toBe('a-aaaa')
  })

  test('of which two come gets the state fetched twice, in their order', async () => {
    const calls: string[] = []
    const { world, server, tab } = await open({ onGap: async reason => calls.push(reason) })
    for (const text of [gap, 'data: between\nid: a-aaaa\n\n', gap.replace('trimmed', 'lagged')]) {
      server.streams[0]?.write(text.replace('id: 9', text.includes('lagged') ? 'id: b' : 'id: 9'))
    }
    await world.run()
    await world.pass(0)
    expect(calls).toEqual(['trimmed', 'lagged'])
    expect(tab.seen).toMatchObject([{ gap: 'trimmed' }, { data: 'between' }, { gap: 'lagged' }])
  })
})

describe('a network that holds streams back', () => {
  test('is noticed by the missing first byte, and polled', async () => {
    const world = new World(load)
    let cursor = '0-aaaa'
    let events: object[] = []
    let hold = () => {}
    world.server.respond = ({ accept, cursor: asked }) => {
      if (accept !== 'application/json') {
        return new Response(new ReadableStream(), {
          headers: { 'Content-Type': 'text/event-stream' },
        })
      }
      if (asked !== cursor || events.length > 0) {
        const given = events
        events = []
        return json({ cursor, events: given })
      }
      return new Response(
        new ReadableStream({
          start(controller) {
            hold = () => {
              controller.enqueue(new TextEncoder().encode(JSON.stringify({ cursor, events })))
              controller.close()
              events = []
            }
          },
        }),
        { headers: { 'Content-Type': 'application/json' } },
      )
    }
    const tab = world.openTab({})
    await world.pass(6000)
    expect(tab.source.status).toBe('live')
    cursor = '1-aaaa'
    events = [{ event: 'message', data: 'polled', id: '1-aaaa' }]
    hold()
    await world.run()
    await world.pass(1)
    expect(tab.seen).toEqual([{ data: 'polled', id: '1-aaaa' }])
    // The end, as a poll gets it.
    cursor = 'sse.end'
    events = [{ event: 'close', data: '', id: 'sse.end' }]
    hold()
    await world.run()
    expect(tab.source.status).toBe('ended')
  })

  test.each([
    ['406', () => answer(406)],
    ['a stream', () => undefined],
  ])('but not one whose server answers a poll with %s', async (_, polled) => {
    const world = new World(load)
    world.server.respond = ({ accept }) =>
      accept === 'application/json'
        ? polled()
        : new Response(new ReadableStream(), { headers: { 'Content-Type': 'text/event-stream' } })
    world.openTab({})
    await world.pass(60_000)
    const polls = world.server.requests.filter(({ accept }) => accept === 'application/json')
    expect(polls).toHaveLength(1)
    expect(world.server.requests.length).toBeLessThan(5)
  })
})

describe('the browser’s own EventSource', () => {
  class Native extends EventTarget {
    static readonly all: Native[] = []
    readonly url: string
    readyState = 0
    onopen?: () => void
    onerror?: () => void
    constructor(url: string) {
      super()
      this.url = url
      Native.all.push(this)
    }
    close(): void {
      this.readyState = 2
    }
    opened(): void {
      this.readyState = 1
      this.onopen?.()
    }
    failed(readyState: number): void {
      this.readyState = readyState
      this.onerror?.()
    }
    say(type: string, data: string, lastEventId: string): void {
      this.dispatchEvent(new MessageEvent(type, { data, lastEventId }))
    }
  }

  async function openNative(options: PoolEventSourceOptions = {}) {
    const world = new World(load)
    Native.all.length = 0
    const tab = world.openTab(options, Native)
    await world.run()
    return { world, tab, native: Native.all[0] as Native, all: Native.all }
  }

  test('does the work where it can', async () => {
    const { world, tab, native } = await openNative()
    expect(world.server.requests).toEqual([])
    native.opened()
    native.say('sse.cursor', '15000', '3-aaaa')
    native.say('message', 'one', '4-aaaa')
    // Sent directly, so it has no id of its own.
    native.say('message', 'two', '4-aaaa')
    expect(tab.seen).toEqual([
      { data: 'one', id: '4-aaaa' },
      { data: 'two', id: '4-aaaa' },
    ])
    expect(tab.source.status).toBe('live')
  })

  test('is not used with headers, a body, or for several tabs', async () => {
    for (const options of [
      { headers: { a: 'b' } },
      { body: '{}' },
      { method: 'POST' },
      { share: true },
    ]) {
      const { world, all } = await openNative(options)
      expect(all).toEqual([])
      expect(world.server.requests).toHaveLength(1)
    }
  })

  test('reconnects once by itself, because only it knows the time that the server asked for', async () => {
    const { world, native, all } = await openNative()
    native.opened()
    native.say('sse.cursor', '15000', '3-aaaa')
    native.failed(0)
    await world.pass(10_000)
    expect(all).toHaveLength(1)
    native.failed(0)
    await world.pass(30_000)
    expect(all.length).toBeGreaterThan(1)
    expect(all[1]?.url).toBe('http://site.test/events?lastEventId=3-aaaa')
  })

  test('does not say why it was refused, so that is asked by fetch', async () => {
    const { world, tab, native } = await openNative()
    world.server.respond = () => answer(503, { 'Retry-After': '2' })
    native.failed(2)
    await world.pass(10)
    expect(tab.source.status).toBe('offline')
    world.server.respond = () => undefined
    await world.pass(4000)
    expect(tab.source.status).toBe('live')
  })

  test('hears a name that the page adds later', async () => {
    const { tab, native } = await openNative()
    const heard: string[] = []
    tab.source.addEventListener('update', ({ data }) => heard.push(data))
    native.say('update', '1', '3-aaaa')
    expect(heard).toEqual(['1'])
  })
})

describe('a mistake is told when the stream is made', () => {
  const make = (url: string, options?: PoolEventSourceOptions) => () => {
    const world = new World(load)
    const Source = world.openTab({}).source.constructor as new (...args: unknown[]) => unknown
    return new Source(url, options)
  }

  test('a URL of another scheme', () => {
    expect(make('ftp://site.test/')).toThrow('url must be http or https, got ftp://site.test/')
  })

  test('a stream for all tabs that has a body or a method of its own', () => {
    const text = 'share needs a plain GET, without method and body'
    expect(make('http://site.test/', { share: true, body: '{}' })).toThrow(text)
    expect(make('http://site.test/', { share: true, method: 'POST' })).toThrow(text)
  })
})

test('a server that is no koa-sse-pool is told of once when another tab takes over', async () => {
  const world = new World(load)
  world.server.respond = () =>
    new Response(
      new ReadableStream({
        start: controller =>
          controller.enqueue(new TextEncoder().encode(':ok\n\ndata: x\nid: 7\n\n')),
      }),
      { headers: { 'Content-Type': 'text/event-stream' } },
    )
  const [leader, next] = [world.openTab(), world.openTab()]
  await world.run()
  world.crash(leader)
  await world.run()
  expect(next.source.status).toBe('live')
  expect(next.warnings).toHaveLength(1)
})
