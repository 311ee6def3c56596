/** The client of pages in real browsers, one page at a time. client-tabs.test.ts has what tabs share. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bundleClient } from '../tabs/script.js'
import { serveTabs, type TabSite } from '../tabs/site.js'
import { dataUpTo, expectNumbers, hasStatus, openPage, openTab, send } from '../tabs/tab.js'
import { bufferingWay, silentWay } from '../tabs/ways.js'
import { type Browser, ENGINES, launch, type Page } from './browser.js'

let script: string
beforeAll(async () => {
  script = await bundleClient()
})

describe.each(ENGINES)('a PoolEventSource in %s', engine => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test('connects again when the server is silent and the connection stays open', async () => {
    const site = await serveTabs({ script, pool: { pingInterval: 200 } })
    const way = await silentWay(site.port)
    const page = await openTab(browser, way, { pingInterval: 200 })
    await send(site, 1, 5)
    await expectNumbers(page, 1, 5)
    way.fallSilent()
    await send(site, 6, 10)
    await expectNumbers(page, 1, 10)
    await hasStatus(page, 'live')
    const statuses = await page.eval(() => window.tab.statuses)
    expect(statuses.filter(status => status !== 'behind')).toEqual(['live', 'connecting', 'live'])
  })

  test('asks for a new token when the old one has expired', async () => {
    let valid = 'first'
    const site = await serveTabs({
      script,
      before(ctx, next) {
        if (ctx.path === '/token') ctx.body = valid
        else if (ctx.get('Authorization') === `Bearer ${valid}`) return next()
        else ctx.status = 401
        return undefined
      },
    })
    const page = await openPage(browser, site.origin)
    await page.eval(() => {
      let token = 'first'
      window.tab.listen('/events', {
        headers: async () => {
          const headers = { Authorization: `Bearer ${token}` }
          // For the next time that it is asked.
          token = await fetch('/token').then(response => response.text())
          return headers
        },
      })
    })
    await hasStatus(page, 'live')
    await send(site, 1, 5)
    await expectNumbers(page, 1, 5)
    valid = 'second'
    site.cut()
    await send(site, 6, 10)
    await expectNumbers(page, 1, 10)
    expect(site.requests.map(({ status, authorization }) => [status, authorization])).toEqual([
      [200, 'Bearer first'],
      [401, 'Bearer first'],
      [200, 'Bearer second'],
    ])
    expect(await page.eval(() => window.tab.statuses)).not.toContain('refused')
  })

  test('asks for a token once more when it is forbidden to listen, and then never again', async () => {
    const site = await serveTabs({
      script,
      before(ctx) {
        ctx.status = ctx.path === '/events' ? 403 : 204
      },
    })
    const page = await openPage(browser, site.origin)
    await page.eval(() => void window.tab.listen('/events', { headers: () => ({ Key: 'wrong' }) }))
    await hasStatus(page, 'refused')
    await expectSilence(page, site, [403, 403])
    expect(await page.eval(() => window.tab.events.readyState)).toBe(2)
  })

  test.each([
    ['end()', false],
    ['end()', true],
    ['pool.remove()', false],
    ['pool.remove()', true],
  ])('asks no more after %s (shared: %s)', async (how, share) => {
    const site = await serveTabs({ script })
    const page = await openTab(browser, site, { share })
    await send(site, 1, 3)
    const [stream] = site.pool.get('ada')?.streams ?? []
    if (how === 'end()') stream?.end('bye')
    else await site.pool.remove('ada', 'bye')
    await hasStatus(page, 'ended')
    await expectNumbers(page, 1, 3)
    await expectSilence(page, site, [200])
  })

  test('waits as long as a server that is overloaded asks', async () => {
    let refusals = 0
    const site = await serveTabs({
      script,
      before(ctx, next) {
        if (ctx.path !== '/events' || ++refusals > 3) return next()
        ctx.status = 503
        ctx.set('Retry-After', '1')
        return undefined
      },
    })
    const page = await openPage(browser, site.origin)
    await page.eval(() => void window.tab.listen('/events'))
    await hasStatus(page, 'live')
    // Only `fetch` sees the status, so the first attempt after the browser's own is made at once.
    expect(site.requests.map(({ status }) => status)).toEqual([503, 503, 503, 200])
    const waits = await page.eval(() => window.tab.delays.filter(ms => ms >= 1000 && ms <= 2000))
    expect(waits).toHaveLength(2)
    expect(await page.eval(() => window.tab.statuses)).toEqual(['offline', 'live'])
  })

  test('polls where something on the way holds back what has not ended', async () => {
    const site = await serveTabs({ script, route: { longPoll: true } })
    // Polls wait while the log is empty, and this page would not be live until then.
    await site.pool.send('ada', 'before it came')
    const way = await bufferingWay(site.port)
    const page = await openPage(browser, `${way.origin}/`)
    // The native EventSource would be tried before.
    await page.eval(() => void window.tab.listen('/events', { headers: {} }))
    await hasStatus(page, 'live')
    await send(site, 1, 5)
    await expectNumbers(page, 1, 5)
    await send(site, 6, 10)
    await expectNumbers(page, 1, 10)
    expect(site.requests.at(-1)?.accept).toBe('application/json')
  })

  test('shows a plain event stream in all tabs, and says once what it cannot promise', async () => {
    const site = await serveTabs({
      script,
      before(ctx, next) {
        if (ctx.path !== '/events') return next()
        ctx.respond = false
        ctx.res.writeHead(200, { 'Content-Type': 'text/event-stream' })
        const last = Number(ctx.get('Last-Event-ID')) || 0
        for (let n = last + 1; n <= last + 3; n++) ctx.res.write(`id: ${n}\ndata: ${n}\n\n`)
        return undefined
      },
    })
    const leading = await openTab(browser, site, { share: true }, 1)
    await expectNumbers(leading, 1, 3)
    // It comes when the stream is at 3.
    const following = await openTab(browser, site, { share: true }, 2)
    await leading.close()
    const data = await dataUpTo(following, 6)
    expect(data).toEqual(['4', '5', '6'])
    const warnings = await following.eval(() => window.tab.warnings)
    expect(warnings).toEqual([expect.stringContaining('may lose or double')])
  })

  // WebKitGTK does not notice that an HTTP/2 connection is lost.
  if (engine !== 'webkit') {
    test('is one of a hundred that do not come back together when they were cut off together', async () => {
      const longest = 2000
      const site = await serveTabs({ script, isHttp2: true, route: { retry: longest } })
      const page = await openPage(browser, `${site.origin}/`)
      await page.eval(() => {
        for (let n = 0; n < 100; n++) window.tab.listen(`/events?n=${n}`, { headers: {} })
      })
      await site.until(({ pool }) => pool.connections === 100)
      await page.eval(() => window.tab.until(({ statuses }) => statuses.length === 100))
      await page.eval(() => void window.tab.delays.splice(0))
      site.cut()
      await site.until(({ pool }) => pool.stats().opened === 200)
      const waits = await page.eval(ms => window.tab.delays.filter(delay => delay < ms), longest)
      expect(waits.length).toBeGreaterThanOrEqual(100)
      const tenths = new Map<number, number>()
      for (const wait of waits.slice(0, 100)) {
        const tenth = Math.floor((wait / longest) * 10)
        tenths.set(tenth, (tenths.get(tenth) ?? 0) + 1)
      }
      // By chance, more than 35 of 100 are in one tenth less often than once in a billion runs.
      expect(Math.max(...tenths.values())).toBeLessThanOrEqual(35)
    })
  }
})

/** Makes another request, which the server would see after any for a stream. */
async function expectSilence(page: Page, site: TabSite, statuses: number[]): Promise<void> {
  await page.eval(() => fetch('/marker').then(() => {}))
  expect(site.requests.map(({ status }) => status)).toEqual(statuses)
}
