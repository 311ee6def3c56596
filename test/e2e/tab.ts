/** A tab with the page that records, seen from the test. */
import { onTestFinished } from 'vitest'
import type { Browser, Page } from './browser.js'
import type { Seen } from './recorder.js'
import type { Site } from './site.js'

export class Tab {
  readonly page: Page
  readonly #site: Site
  #isClosed = false

  constructor(page: Page, site: Site) {
    this.page = page
    this.#site = site
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.page.close()
  }

  /** Opens another stream of the page. */
  async listen(id: string, query = ''): Promise<void> {
    await this.page.eval(url => void window.recorder.listen(url), `/events?id=${id}${query}`)
  }

  /** Resolves to all events of a type once there are `count`, one of them with the id if it is given. */
  until(type: string, count = 1, id = ''): Promise<Seen[]> {
    return this.page.eval((...what) => window.recorder.until(...what), type, count, id)
  }

  /** Everything recorded so far, except heartbeats. */
  async seen(): Promise<Seen[]> {
    const all = await this.page.eval(() => window.recorder.seen)
    return all.filter(({ type }) => type !== 'sse.cursor')
  }

  /** The data of all messages so far. */
  async data(): Promise<(string | undefined)[]> {
    return (await this.seen()).filter(({ type }) => type === 'message').map(({ data }) => data)
  }

  readyStates(): Promise<number[]> {
    return this.page.eval(() => window.recorder.sources.map(({ readyState }) => readyState))
  }

  /** Makes another request, so that the server has seen everything the page sent before. */
  async mark(): Promise<void> {
    await this.page.eval(() => fetch('/marker').then(() => {}))
    if (this.#site.requests.at(-1)?.path !== '/marker') {
      throw new Error(`after the marker came ${JSON.stringify(this.#site.requests.at(-1))}`)
    }
  }
}

export async function openTab(browser: Browser, site: Site): Promise<Tab> {
  const page = await browser.open()
  const tab = new Tab(page, site)
  onTestFinished(() => tab.close())
  await page.goto(`${site.origin}/`)
  return tab
}

/** A tab whose stream is open. */
export async function openStream(browser: Browser, site: Site, id: string): Promise<Tab> {
  const tab = await openTab(browser, site)
  await tab.listen(id)
  await tab.until('open')
  return tab
}
