import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type Browser, ENGINES, launch } from './browser.js'
import { PROTOCOLS, serveSite } from './site.js'
import { openStream, openTab } from './tab.js'

// Every random delay is a tenth of a second, so that no test waits for seconds at random.
vi.mock('../../src/lib/random.js', async original => ({
  ...(await original<typeof import('../../src/lib/random.js')>()),
  randomBetween: ([, max]: readonly [number, number]) => (max < 100 ? 0 : 100),
}))

describe.each(ENGINES)('an EventSource in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  describe.each(PROTOCOLS)('over %s', protocol => {
    test.each([
      ['end()', true],
      ['pool.remove()', false],
    ])('asks once more after %s, then stops for good', async (_, byStream) => {
      const site = await serveSite({ protocol })
      const tab = await openStream(browser, site, 'ada')
      await site.pool.send('ada', 'before')
      const [stream] = site.pool.get('ada')?.streams ?? []
      if (byStream) stream?.end('bye')
      else await site.pool.remove('ada', 'bye')
      await tab.until('failed')
      // Any other request of the page would have arrived before this one.
      await tab.mark()

      expect(await tab.seen()).toEqual([
        { type: 'open' },
        { type: 'message', data: 'before', id: expect.any(String) },
        { type: 'close', data: 'bye', id: 'sse.end' },
        { type: 'lost' },
        { type: 'failed' },
      ])
      expect(await tab.readyStates()).toEqual([2])
      expect(site.requests).toMatchObject([
        { path: '/events', lastEventId: '', status: 200 },
        { path: '/events', lastEventId: 'sse.end', status: 204 },
        { path: '/marker' },
      ])
    })

    test("comes back to a full pool with overflow: 'retry' and gets the place that becomes free", async () => {
      const site = await serveSite({
        protocol,
        pool: { maxClients: 1 },
        sse: { overflow: 'retry' },
      })
      const first = await openStream(browser, site, 'first')
      const second = await openTab(browser, site)
      await second.listen('second')
      await second.until('lost')
      expect(site.pool.has('second')).toBe(false)
      await first.page.eval(() => window.recorder.sources[0]?.close())
      await site.until(() => site.pool.has('second'))
      await site.pool.send('second', 'welcome')
      await second.until('message')
      expect(await second.data()).toEqual(['welcome'])
      expect(site.pool.stats().refused.full).toBeGreaterThan(0)
    })

    test("stops for good at a full pool with overflow: 'reject', as at any 503", async () => {
      const site = await serveSite({ protocol, pool: { maxClients: 1 } })
      const first = await openStream(browser, site, 'first')
      const second = await openTab(browser, site)
      await second.listen('second')
      await second.until('failed')
      await first.page.eval(() => window.recorder.sources[0]?.close())
      await site.until(() => site.pool.connections === 0)
      await second.mark()
      expect(await second.seen()).toEqual([{ type: 'failed' }])
      expect(site.asked).toHaveLength(2)
      expect(site.requests[1]).toMatchObject({ path: '/events', status: 503 })
    })

    test('gets events in all tabs of one id, also after one of them is closed', async () => {
      const site = await serveSite({ protocol })
      const staying = [
        await openStream(browser, site, 'ada'),
        await openStream(browser, site, 'ada'),
      ]
      const closing = await openStream(browser, site, 'ada')
      await site.pool.send('ada', 'to all')
      for (const tab of [closing, ...staying]) await tab.until('message')
      await closing.close()
      await site.until(() => site.pool.connections === 2)
      await site.pool.send('ada', 'to the rest')
      for (const tab of staying) {
        await tab.until('message', 2)
        expect(await tab.data()).toEqual(['to all', 'to the rest'])
        expect((await tab.seen()).map(({ type }) => type)).not.toContain('lost')
      }
    })

    test('has one stream again after a page that closes it on pagehide was left and restored', async () => {
      const site = await serveSite({ protocol })
      const page = await browser.open()
      onTestFinished(() => page.close())
      await page.goto(`${site.origin}/keeper`)
      await site.until(() => site.pool.connections === 1)
      await site.pool.send('ada', 'leave')
      // WebKit also revives the closed EventSource, and the page closes it again.
      const opened = engine === 'webkit' ? 3 : 2
      await site.until(() => site.pool.stats().opened === opened && site.pool.connections === 1)
      await site.pool.send('ada', 'welcome')
      await site.until(() => site.requests.at(-1)?.url === '/marker?welcome')

      const [first, second, ...others] = site.requests
      expect(first?.url).toBe('/events?id=ada&persisted=false')
      // Firefox does not cache a page that was left with an open stream; it loads the page again.
      expect(second?.url).toBe(`/events?id=ada&persisted=${engine !== 'firefox'}`)
      expect(others.map(({ url }) => url)).toEqual([
        ...(engine === 'webkit' ? ['/events?id=ada&persisted=false'] : []),
        '/marker?welcome',
      ])
    })

    if (protocol === 'HTTP/1.1') {
      test('waits silently as the seventh stream until another one closes', async () => {
        const site = await serveSite({ protocol })
        const tab = await openTab(browser, site)
        for (let n = 1; n <= 7; n++) await tab.listen(`${n}`)
        await tab.until('open', 6)
        // By another host name, which has a connection limit of its own.
        const elsewhere = `${site.origin.replace('127.0.0.1', 'localhost')}/marker`
        await tab.page.eval(url => fetch(url, { mode: 'no-cors' }).then(() => {}), elsewhere)
        expect(site.asked).toHaveLength(6)
        expect((await tab.readyStates()).filter(state => state === 0)).toHaveLength(1)

        const [open = ''] = site.pool.keys()
        await tab.page.eval(n => window.recorder.sources[n]?.close(), Number(open) - 1)
        await tab.until('open', 7)
        expect(site.pool.connections).toBe(6)
      })
    } else {
      test('is one of twenty streams on one connection', async () => {
        const site = await serveSite({ protocol })
        const tab = await openTab(browser, site)
        for (let n = 1; n <= 20; n++) await tab.listen(`${n}`)
        await tab.until('open', 20)
        expect(site.pool.connections).toBe(20)
        await tab.mark()
        expect(site.connections.size).toBe(1)
      })
    }
  })
})
