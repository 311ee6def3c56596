/** Only a browser can show that it accepts the ticket's cookie from a stream and sends it back. */
import http from 'node:http'
import Koa from 'koa'
import { sse } from 'koa-sse-pool'
import { streamTickets, type TicketRefusal } from 'koa-sse-pool/tickets'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, listen, testPool } from '../helpers/server.js'
import { SECRET } from '../helpers/tickets.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'

const PAGE = '<!doctype html><title>Tickets</title><link rel="icon" href="data:,"><ol></ol>'

async function servePage() {
  const app = new Koa()
  app.use(ctx => {
    ctx.body = PAGE
  })
  return listen(http.createServer(app.callback()))
}

/** Serves events on the page's own origin, or on another one that allows it. */
async function serveEvents(allowed?: string) {
  const pool = testPool()
  const refusals: TicketRefusal[] = []
  const onRefused = (why: TicketRefusal) => void refusals.push(why)
  const tickets = streamTickets({ pool, secret: SECRET, onRefused })
  const app = new Koa()
  const statuses: number[] = []
  const stream = sse({
    pool,
    ...tickets.redeem(),
    retry: 50,
    ...(allowed && { allowedOrigins: [allowed] }),
  })
  app.use(async (ctx, next) => {
    if (ctx.path === '/') ctx.body = PAGE
    if (ctx.path === '/ticket') {
      if (allowed) ctx.set('Access-Control-Allow-Origin', allowed)
      ctx.body = await tickets.issue({ id: 'ada', origin: ctx.get('Origin') })
    }
    if (ctx.path !== '/events') return
    await stream(ctx, next).finally(() => statuses.push(ctx.res.statusCode))
  })
  return { pool, refusals, statuses, ...(await listen(http.createServer(app.callback()))) }
}

/** Opens a stream as a page would and records what arrives; resolves to the URL that it used. */
function openStream(page: Page, origin: string): Promise<string> {
  return page.eval(async from => {
    const response = await fetch(`${from}/ticket`, { method: 'POST' })
    const url = `${from}/events?ticket=${await response.text()}`
    const source = new EventSource(url, { withCredentials: true })
    const note = (text: string) => {
      document.querySelector('ol')?.append(`${text};`)
    }
    source.onmessage = ({ data }) => note(data)
    source.onopen = () => note('open')
    source.onerror = () => {
      if (source.readyState === source.CLOSED) note('stopped')
    }
    return url
  }, origin)
}

const shows = (page: Page, wanted: string) =>
  waitFor(page, text => document.querySelector('ol')?.textContent === text, wanted)

describe.each(ENGINES)('an EventSource in %s', engine => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test.each(['its own', 'another'])(
    'comes back to %s origin with a spent ticket, whose URL is useless to anyone else',
    async whose => {
      const site = whose === 'another' ? await servePage() : undefined
      const events = await serveEvents(site?.origin)
      const page = await browser.open()
      await page.goto(`${(site ?? events).origin}/`)
      const url = await openStream(page, events.origin)
      let expected = 'open;'
      await shows(page, expected)
      // Before the first event that has an id, a browser has nothing to resume from.
      await events.pool.send('ada', 'zero')
      expected += 'zero;'
      await shows(page, expected)
      for (const text of ['one', 'two', 'three']) {
        events.cut()
        await events.pool.send('ada', text)
        expected += `open;${text};`
        await shows(page, expected)
      }
      expect(events.statuses).toEqual([200, 200, 200, 200])
      expect(await page.eval(() => document.cookie)).toBe('')
      const { origin, pathname, search } = new URL(url)
      const headers = { Origin: (site ?? events).origin }
      expect((await connect(origin, pathname + search, { headers })).status).toBe(401)
      expect(events.refusals).toEqual(['spent'])
    },
  )
})
