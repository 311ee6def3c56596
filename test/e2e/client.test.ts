/** The client of pages, in real browsers: what no fake of locks and channels can show. */
import http from 'node:http'
import Router from '@koa/router'
import Koa from 'koa'
import { clientScript, sse } from 'koa-sse-pool'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { listen, testPool } from '../helpers/server.js'
import { type Browser, launch, type Page, waitFor } from './browser.js'

async function serve() {
  const pool = testPool({ pingInterval: 1000 })
  const app = new Koa()
  const router = new Router()
  router.get('/', ctx => {
    ctx.body =
      '<!doctype html><link rel="icon" href="data:,"><title>Tab</title><script src="/client.js"></script><ol></ol>'
  })
  router.get('/client.js', clientScript())
  router.get('/events', sse({ pool, id: () => 'ada', retry: 100 }))
  app.use(router.routes())
  return { pool, ...(await listen(http.createServer(app.callback()))) }
}

async function openTab(browser: Browser, origin: string): Promise<Page> {
  const page = await browser.open()
  await page.goto(origin)
  await page.eval(() => {
    const { PoolEventSource } = globalThis as any
    const events = new PoolEventSource('/events', { share: true })
    const note = (text: string) => document.querySelector('ol')?.append(`${text} `)
    events.onmessage = (event: any) => note(event.data)
    events.addEventListener('status', (event: any) => {
      document.title = event.status
    })
    events.addEventListener('gap', (event: any) => note(`gap ${event.reason}`))
  })
  await waitFor(page, () => document.title === 'live')
  return page
}

const text = (page: Page) => page.eval(() => document.querySelector('ol')?.textContent ?? '')

describe.each(['chromium', 'firefox'] as const)('tabs in %s', engine => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test('share one stream, which outlives the leader', async () => {
    const { pool, origin } = await serve()
    const tabs: Page[] = []
    for (let i = 0; i < 3; i++) tabs.push(await openTab(browser, origin))
    expect(pool.connections).toBe(1)
    let n = 0
    const say = () => void pool.send('ada', String(++n))
    for (let i = 0; i < 5; i++) say()
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 50; i++) say()
      await tabs.shift()?.close()
      for (let i = 0; i < 50; i++) say()
      tabs.push(await openTab(browser, origin))
      say()
      const first = tabs[0] as Page
      await waitFor(
        first,
        last => document.querySelector('ol')?.textContent?.endsWith(` ${last} `),
        n,
      )
    }
    for (const tab of tabs) {
      const numbers = (await text(tab)).trim().split(' ').map(Number)
      expect(numbers).toEqual(
        Array.from({ length: numbers.length }, (_, i) => (numbers[0] as number) + i),
      )
    }
    expect(pool.connections).toBe(1)
  })
})
