import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { type Browser, ENGINES, launch } from './browser.js'
import { PROTOCOLS, type Site, serveSite } from './site.js'
import { openStream } from './tab.js'

// Every random delay is a tenth of a second, so that no test waits for seconds at random.
vi.mock('../../src/lib/random.js', async original => ({
  ...(await original<typeof import('../../src/lib/random.js')>()),
  randomBetween: ([, max]: readonly [number, number]) => (max < 100 ? 0 : 100),
}))

const reason = (why: string) => JSON.stringify({ reason: why })

describe.each(ENGINES)('an EventSource in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  describe.each(PROTOCOLS)('over %s', protocol => {
    /** WebKit never notices a lost HTTP/2 session, only a stream that ends cleanly. */
    const noticesCuts = !(engine === 'webkit' && protocol === 'HTTP/2')
    const interrupt = (site: Site) => (noticesCuts ? site.cut() : site.endStreams())

    test('gets everything once and in order when it is cut off in the middle of a burst', async () => {
      const site = await serveSite({ protocol })
      const tab = await openStream(browser, site, 'ada')
      // More than the kernel takes at once, so that some of it is lost in transit.
      const padding = 'x'.repeat(50_000)
      const send = (n: number) => site.pool.send('ada', `${n} ${padding}`)
      for (let n = 1; n <= 100; n++) send(n)
      await tab.until('message')
      await interrupt(site)
      for (let n = 101; n <= 120; n++) send(n)
      await tab.until('message', 120)

      const numbers = (await tab.data()).map(data => Number.parseInt(data ?? '', 10))
      expect(numbers).toEqual(Array.from({ length: 120 }, (_, i) => i + 1))
      expect(site.pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
      expect(site.requests[0]?.httpVersion).toBe(protocol === 'HTTP/2' ? '2.0' : '1.1')
    })

    test('comes back and misses nothing when the handler fails', async () => {
      const failure = deferred<Error>()
      const site = await serveSite({
        protocol,
        handler: async ctx => {
          if (ctx.sse.lastEventId !== '') return
          ctx.sse.comment()
          throw await failure.promise
        },
      })
      const tab = await openStream(browser, site, 'ada')
      await site.pool.send('ada', 'before')
      await tab.until('message')
      failure.resolve(new Error('of the handler'))
      await site.until(() => site.pool.connections === 0)
      await site.pool.send('ada', 'missed')
      await tab.until('message', 2)
      await site.pool.send('ada', 'live')
      await tab.until('message', 3)
      expect(await tab.data()).toEqual(['before', 'missed', 'live'])
      expect(site.pool.stats()).toMatchObject({ closed: { error: 1 }, replays: 1, gaps: 0 })
    })

    test('continues without a gap when others filled the window while it was quiet', async () => {
      const site = await serveSite({ protocol, pool: { pingInterval: 20, window: { events: 3 } } })
      const tab = await openStream(browser, site, 'quiet')
      let newest = ''
      for (let n = 0; n < 9; n++) newest = await site.pool.send('other', 'noise')
      await tab.until('sse.cursor', 1, newest)
      await interrupt(site)
      await site.pool.send('quiet', 'missed')
      await tab.until('message')
      expect(site.asked).toEqual(['', newest])
      expect(await tab.data()).toEqual(['missed'])
      expect(site.pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
    })

    test('gets a gap when the window has lost its cursor', async () => {
      const pool = { pingInterval: false, window: { events: 3 } } as const
      const site = await serveSite({ protocol, pool })
      const tab = await openStream(browser, site, 'ada')
      await site.pool.send('ada', 'before')
      await tab.until('message')
      await interrupt(site)
      for (let n = 0; n < 4; n++) site.pool.send('ada', 'too much')
      const [gap] = await tab.until('sse.gap')
      await site.pool.send('ada', 'after')
      await tab.until('message', 2)
      expect(gap?.data).toBe(reason('trimmed'))
      expect(await tab.data()).toEqual(['before', 'after'])
    })

    test('survives a restart of the server and is told that the old log is gone', async () => {
      const site = await serveSite({ protocol })
      const tab = await openStream(browser, site, 'ada')
      const last = await site.pool.send('ada', 'before')
      await tab.until('message')
      // An orderly stop: the streams are ended first, each with the time to come back.
      await site.pool.close()
      await tab.until('lost')
      await site.crash()
      // At least one attempt is refused, because nothing listens on the port.
      await tab.until('lost', 2)
      await site.start()
      const [gap] = await tab.until('sse.gap')
      await site.pool.send('ada', 'after')
      await tab.until('message', 2)
      expect(gap?.data).toBe(reason('unknown'))
      expect(site.asked).toEqual(['', last])
      expect(await tab.data()).toEqual(['before', 'after'])
    })

    if (noticesCuts) {
      test('survives a crash and restart of the server', async () => {
        const site = await serveSite({ protocol })
        const tab = await openStream(browser, site, 'ada')
        await site.pool.send('ada', 'before')
        await tab.until('message')
        await site.crash()
        await tab.until('lost', 2)
        await site.start()
        const [gap] = await tab.until('sse.gap')
        await site.pool.send('ada', 'after')
        await tab.until('message', 2)
        expect(gap?.data).toBe(reason('unknown'))
        expect(await tab.data()).toEqual(['before', 'after'])
      })
    } else {
      test('does not notice a lost session, but a page that does can ask with ?lastEventId=', async () => {
        const site = await serveSite({ protocol })
        const tab = await openStream(browser, site, 'ada')
        const last = await site.pool.send('ada', 'before')
        await tab.until('message')
        await site.cut()
        await site.pool.send('ada', 'missed')
        // The browser has a new connection by now, so it must know that the old one is lost.
        await tab.mark()
        expect(await tab.readyStates()).toEqual([1])
        expect((await tab.seen()).map(({ type }) => type)).toEqual(['open', 'message'])

        await tab.page.eval(() => window.recorder.sources[0]?.close())
        await tab.listen('ada', `&lastEventId=${last}`)
        await tab.until('message', 2)
        expect(await tab.data()).toEqual(['before', 'missed'])
        expect(site.pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
      })
    }

    test('takes a cursor from an id without data together with the next event', async () => {
      const site = await serveSite({ protocol, pool: { heartbeat: 'comment' } })
      const tab = await openStream(browser, site, 'ada')
      // When this event is there, the id has arrived.
      for (const stream of site.pool.get('ada')?.streams ?? []) stream.send('no id')
      const [message] = await tab.until('message')
      await interrupt(site)
      await tab.until('open', 2)
      const cursor = expect.stringMatching(/^0-/)
      expect(message).toEqual({ type: 'message', data: 'no id', id: cursor })
      expect(site.asked).toEqual(['', cursor])
    })

    test('takes its first cursor from the heartbeat, which listeners for messages do not notice', async () => {
      const site = await serveSite({ protocol })
      const tab = await openStream(browser, site, 'ada')
      await tab.until('sse.cursor')
      await interrupt(site)
      await tab.until('open', 2)
      expect(site.asked).toEqual(['', expect.stringMatching(/^0-/)])
      expect(await tab.data()).toEqual([])
    })
  })
})
