/**
 * Tabs that share a stream, in real browsers: what no fake of locks and channels can show. That tabs are
 * killed is tested in client-kills.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { deferred } from '../helpers/app.js'
import { pageWith } from '../tabs/page.js'
import { bundleClient } from '../tabs/script.js'
import { serveTabs } from '../tabs/site.js'
import { dataUpTo, expectNumbers, numbers, openPage, openTab, send } from '../tabs/tab.js'
import { type Browser, ENGINES, launch, type Page } from './browser.js'

let script: string
beforeAll(async () => {
  script = await bundleClient()
})

describe.each(ENGINES)('tabs that share a stream in %s', engine => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launch(engine, { processPerTab: true })
  })
  afterAll(() => browser.close())

  /** Tabs from the first on, whose numbers are 1, 2 and so on. The first one leads. */
  async function openTabs(site: Parameters<typeof openTab>[1], count: number): Promise<Page[]> {
    const tabs: Page[] = []
    for (let n = 1; n <= count; n++) tabs.push(await openTab(browser, site, { share: true }, n))
    return tabs
  }

  test('eight on HTTP/1.1, have one connection, and their own requests get through', async () => {
    const site = await serveTabs({ script })
    const tabs = await openTabs(site, 8)
    expect(site.requests).toHaveLength(1)
    expect(site.pool.connections).toBe(1)
    await send(site, 1, 20)
    for (const tab of tabs) {
      expect(await tab.eval(async () => (await fetch('/marker')).status)).toBe(204)
      await expectNumbers(tab, 1, 20)
    }
  })

  test('miss nothing when the one that leads is closed', async () => {
    const site = await serveTabs({ script })
    const tabs = await openTabs(site, 3)
    await send(site, 1, 50)
    const closed = tabs.shift()?.close()
    await send(site, 51, 100)
    await closed
    await site.until(({ leader }) => leader === 2)
    tabs.push(await openTab(browser, site, { share: true }, 4))
    await send(site, 101, 150)
    const [second, third, fourth] = tabs as [Page, Page, Page]
    await expectNumbers(second, 1, 150)
    await expectNumbers(third, 1, 150)
    await expectNumbers(fourth, 101, 150)
    expect(site.pool.connections).toBe(1)
  })

  // WebDriver of WebKitGTK has no way to freeze a page, and none to find its process.
  if (engine !== 'webkit') {
    test('take over from one that stands still without notice, which misses nothing either', async () => {
      const site = await serveTabs({ script })
      const [leading, following] = (await openTabs(site, 2)) as [Page, Page]
      await send(site, 1, 10)
      await expectNumbers(leading, 1, 10)
      leading.signal?.('SIGSTOP')
      await send(site, 11, 20)
      // It asks who leads, and so does the second one as it goes into the background. Nobody answers, so
      // one of them takes the lock.
      const added = await openTab(browser, site, { share: true }, 3)
      expect([2, 3]).toContain(site.leader)
      await expectNumbers(following, 1, 20)
      leading.signal?.('SIGCONT')
      await send(site, 21, 30)
      await expectNumbers(leading, 1, 30)
      await expectNumbers(following, 1, 30)
      // It may have been shown what the others had missed, too.
      expect((await dataUpTo(added, 30)).slice(-10)).toEqual(numbers(21, 30))
      await site.until(({ pool }) => pool.connections === 1)
    })
  }

  // Only the protocol of Chromium can freeze a page as a phone does.
  if (engine === 'chromium') {
    test('take over from one that is frozen, which has everything when it is thawed', async () => {
      const site = await serveTabs({ script })
      const [leading, following] = (await openTabs(site, 2)) as [Page, Page]
      await send(site, 1, 10)
      await expectNumbers(leading, 1, 10)
      await leading.setFrozen?.(true)
      await site.until(({ leader }) => leader === 2)
      await send(site, 11, 20)
      await expectNumbers(following, 1, 20)
      await leading.setFrozen?.(false)
      await expectNumbers(leading, 1, 20)
      expect(site.pool.connections).toBe(1)
    })
  }

  test('have everything when the user comes back to one by the back button', async () => {
    const isSent = deferred()
    const report = deferred<{ persisted: boolean; data: string[] }>()
    const site = await serveTabs({
      script,
      async before(ctx, next) {
        if (ctx.path === '/keeper') ctx.body = pageWith(keep)
        else if (ctx.path === '/away') ctx.body = AWAY
        else if (ctx.path === '/sent') {
          await isSent.promise
          ctx.status = 204
        } else if (ctx.path === '/report') {
          report.resolve(JSON.parse(String(ctx.query.json)))
          ctx.status = 204
        } else await next()
      },
    })
    await openPage(browser, `${site.origin}/keeper?tab=1`)
    await site.until(({ pool }) => pool.connections === 1)
    const staying = await openTab(browser, site, { share: true }, 2)
    await send(site, 1, 10)
    await site.pool.send('ada', 'leave')
    await site.until(({ leader }) => leader === 2)
    await send(site, 11, 20)
    isSent.resolve()
    const { persisted, data } = await report.promise
    // Firefox loads the page again. It then continues after the id that it has stored.
    expect(persisted).toBe(engine !== 'firefox')
    const expected = [...numbers(1, 10), 'leave', ...numbers(11, 20)]
    expect(data).toEqual(expected)
    expect(await staying.eval(() => window.tab.data)).toEqual(expected)
    expect(site.pool.connections).toBe(1)
  })
})

/**
 * Runs in a page that is left and restored. Drivers lose track of such a page, so it does everything itself
 * and reports to the server.
 */
function keep(): void {
  const { tab } = window
  tab.data.push(...JSON.parse(sessionStorage.getItem('data') ?? '[]'))
  const lastEventId = sessionStorage.getItem('cursor') ?? undefined
  const events = tab.listen('/events', { share: true, lastEventId })
  let isRestored = false
  events.addEventListener('message', ({ data }) => {
    if (data === 'leave') location.assign('/away')
  })
  void tab
    .until(({ data }) => data.includes('20'))
    .then(() =>
      fetch(
        `/report?json=${encodeURIComponent(JSON.stringify({ persisted: isRestored, data: tab.data }))}`,
      ),
    )
  addEventListener('pageshow', ({ persisted }) => {
    isRestored = persisted
  })
  addEventListener('pagehide', () => {
    sessionStorage.setItem('data', JSON.stringify(tab.data))
    sessionStorage.setItem('cursor', events.lastEventId)
  })
}

const AWAY = `<!doctype html><title>Away</title><link rel="icon" href="data:,"><script>
onload = () => setTimeout(() => fetch('/sent').then(() => history.back()))
</script>`
