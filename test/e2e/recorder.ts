/** The page of the browser tests. It records what its EventSource does, and tests wait for that. */
import { onTestFinished } from 'vitest'
import type { Browser, Page } from './browser.js'
import type { Site } from './site.js'

export interface Seen {
  /**
   * The event's name; for `error`, `lost` if the browser reconnects by itself and `failed` if it has
   * given up.
   */
  type: string
  data?: string
  id?: string
}

interface Recorder {
  readonly seen: Seen[]
  readonly sources: EventSource[]
  /** Opens another stream. All streams of a page share the record. */
  listen(url: string): EventSource
  /** Resolves to all events of a type once there are `count`, one of them with the id if it is given. */
  until(type: string, count: number, id: string): Promise<Seen[]>
}

declare global {
  interface Window {
    recorder: Recorder
  }
}

const TYPES = ['open', 'message', 'close', 'sse.cursor', 'sse.gap']

/** Runs in the page. */
function install(types: string[]): void {
  const seen: Seen[] = []
  const sources: EventSource[] = []
  const waiting = new Set<() => void>()
  const note = (what: Seen) => {
    seen.push(what)
    for (const check of waiting) check()
  }

  window.recorder = {
    seen,
    sources,
    listen(url) {
      const source = new EventSource(url)
      sources.push(source)
      for (const type of types) {
        source.addEventListener(type, ({ data, lastEventId }: MessageEventInit) =>
          note({ type, ...(type !== 'open' && { data, id: lastEventId }) }),
        )
      }
      source.onerror = () =>
        note({ type: source.readyState === EventSource.CLOSED ? 'failed' : 'lost' })
      return source
    },
    until(type, count, id) {
      return new Promise((resolve, reject) => {
        const found = () => seen.filter(one => one.type === type)
        // The test then reports what was seen instead of running into its time limit.
        const timer = setTimeout(() => {
          const what = seen.map(
            one => `${one.type} ${one.id ?? ''} ${one.data?.slice(0, 40) ?? ''}`,
          )
          reject(new Error(`waited for ${count} ${type} ${id}; seen:\n${what.join('\n')}`))
        }, 60_000)
        const check = () => {
          const all = found()
          if (all.length < count || (id !== '' && !all.some(one => one.id === id))) return
          clearTimeout(timer)
          waiting.delete(check)
          resolve(all)
        }
        waiting.add(check)
        check()
      })
    },
  }
}

export const HTML = `<!doctype html><title>Recorder</title><link rel="icon" href="data:,">
<script>(${install})(${JSON.stringify(TYPES)})</script>`

/** A tab with the page, seen from the test. */
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
