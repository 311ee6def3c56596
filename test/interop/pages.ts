/** The clients that run in a page of a browser. */
import type { Browser } from '../e2e/engine.js'
import type { Start } from './behaviours.js'
import { versionOf } from './clients.js'
import type { InteropPage } from './page.js'
import type { Client } from './play.js'

declare global {
  interface Window {
    interop: InteropPage
  }
}

function inPage(browser: Browser, name: string): Start {
  return async world => {
    const page = await browser.open()
    await page.goto(`${world.origin}/`)
    await page.eval(client => window.interop.start(client), name)
    // The tab stays until the browser is closed: Firefox fails to open one while another one is closing.
    return () => page.eval(() => window.interop.stop())
  }
}

/** Turbo renders elements only. */
const asTurboStream = (text: string) =>
  `<turbo-stream action="append" target="main"><template>${text}</template></turbo-stream>`

const TITLES = { chromium: 'Chromium', firefox: 'Firefox', webkit: 'WebKitGTK' }

/** The browser's own EventSource, and Turbo's element in front of it. */
export function nativeClient(browser: Browser, script: string): Client {
  return { name: TITLES[browser.engine], script, start: inPage(browser, 'EventSource') }
}

export function pageClients(browser: Browser, script: string): Client[] {
  const start = (name: string) => inPage(browser, name)
  return [
    {
      name: `event-source-polyfill ${versionOf('event-source-polyfill')}`,
      script,
      start: start('event-source-polyfill'),
    },
    {
      name: `sse.js ${versionOf('sse.js')}`,
      script,
      start: start('sse.js'),
      options: { '`autoReconnect`': start('sse.js, autoReconnect') },
    },
    {
      name: `reconnecting-eventsource ${versionOf('reconnecting-eventsource')}`,
      script,
      start: start('reconnecting-eventsource'),
    },
    {
      name: `htmx ${versionOf('htmx.org')} with hx-sse`,
      script,
      start: start('htmx'),
      options: { '`hx-sse:close="close"`': start('htmx, hx-sse:close') },
    },
    {
      name: `Turbo ${versionOf('@hotwired/turbo')}`,
      script,
      start: start('turbo'),
      encode: asTurboStream,
    },
  ]
}
