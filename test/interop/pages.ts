/** The clients that run in a page of a browser. */
import type { Browser, Engine } from '../e2e/engine.js'
import type { Start } from './behaviours.js'
import { versionOf } from './clients.js'
import type { InteropPage } from './page.js'
import type { Client } from './play.js'

declare global {
  interface Window {
    interop: InteropPage
  }
}

/** Browsers of one engine. Each shows one page at a time, because htmx pauses in a page that is hidden. */
export class Browsers {
  readonly engine: Engine
  readonly #free: Browser[]
  readonly #waiting: ((browser: Browser) => void)[] = []

  constructor(engine: Engine, browsers: readonly Browser[]) {
    this.engine = engine
    this.#free = [...browsers]
  }

  /** A client in a page of its own. */
  start(name: string): Start {
    return async world => {
      const browser = await this.#take()
      const page = await browser.open()
      await page.goto(`${world.origin}/`)
      await page.eval(client => window.interop.start(client), name)
      let isStopped = false
      return async () => {
        if (isStopped) return
        isStopped = true
        await page.eval(() => window.interop.stop())
        await page.close()
        this.#give(browser)
      }
    }
  }

  async #take(): Promise<Browser> {
    return this.#free.pop() ?? new Promise(resolve => this.#waiting.push(resolve))
  }

  #give(browser: Browser): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free.push(browser)
    else next(browser)
  }
}

/** Turbo renders elements only. */
const asTurboStream = (text: string) =>
  `<turbo-stream action="append" target="main"><template>${text}</template></turbo-stream>`

const TITLES = { chromium: 'Chromium', firefox: 'Firefox', webkit: 'WebKitGTK' }

/** The browser's own EventSource. */
export function nativeClient(browsers: Browsers, script: string): Client {
  return { name: TITLES[browsers.engine], world: { script }, start: browsers.start('EventSource') }
}

export function pageClients(browsers: Browsers, script: string): Client[] {
  const start = (name: string) => browsers.start(name)
  return [
    {
      name: `event-source-polyfill ${versionOf('event-source-polyfill')}`,
      world: { script },
      start: start('event-source-polyfill'),
    },
    {
      name: `sse.js ${versionOf('sse.js')} with autoReconnect`,
      world: { script },
      start: start('sse.js'),
    },
    {
      name: `reconnecting-eventsource ${versionOf('reconnecting-eventsource')}`,
      world: { script },
      start: start('reconnecting-eventsource'),
    },
    {
      name: `htmx ${versionOf('htmx.org')} with hx-sse`,
      world: { script },
      start: start('htmx'),
      options: { '`hx-sse:close="close"`': start('htmx, hx-sse:close') },
    },
    {
      name: `Turbo ${versionOf('@hotwired/turbo')}`,
      world: { script, encode: asTurboStream },
      start: start('turbo'),
    },
  ]
}
