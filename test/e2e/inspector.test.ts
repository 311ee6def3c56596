/** The page of the inspector in three engines, with real streams over loopback. */
import http from 'node:http'
import http2 from 'node:http2'
import Router from '@koa/router'
import Koa from 'koa'
import { sse } from 'koa-sse-pool'
import { inspector } from 'koa-sse-pool/inspector'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { deferred } from '../helpers/app.js'
import { connect2, session2 } from '../helpers/http2.js'
import { connect, listen, testPool } from '../helpers/server.js'
import { type Browser, ENGINES, type Key, launch, type Page, waitFor } from './browser.js'
import { press, stateIs, textOf } from './page.js'

/** An id that would run in a page that made markup of it. */
const EVIL = '<img src=x onerror="document.title=1">'

/** @param keepsPolicy whether the page keeps its policy, which also forbids what WebKit's driver evaluates. */
async function serve(keepsPolicy: boolean) {
  const pool = testPool({ maxClients: Number.POSITIVE_INFINITY })
  const app = new Koa()
  const live = deferred()
  app.use(async (ctx, next) => {
    if (ctx.path === '/inspector/events') live.resolve()
    await next()
    if (!keepsPolicy) ctx.remove('Content-Security-Policy')
  })
  const router = new Router()
  router.all(
    '/inspector{/*path}',
    inspector(pool, { authorize: () => true, data: true, actions: ['send', 'remove', 'drain'] }),
  )
  router.get('/events', sse({ pool, id: ctx => ctx.query.id as string, channels: () => ['news'] }))
  app.use(router.routes())
  const { origin } = await listen(http.createServer(app.callback()))
  const open = (id: string) => connect(origin, `/events?id=${encodeURIComponent(id)}`)
  return { pool, app, origin, open, live: live.promise }
}

describe.each(ENGINES)('the inspector in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  async function openPage(origin: string): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    // Without the slash, which the server adds.
    await page.goto(`${origin}/inspector`)
    await stateIs(page, 'open')
    await waitFor(page, () => document.body.dataset.ready === 'true')
    return page
  }

  test('shows streams, finds one, shows what it was sent, and removes its client', async () => {
    const { pool, origin, open } = await serve(engine !== 'webkit')
    const evil = await open(EVIL)
    for (const id of ['ada', 'bob']) await open(id)
    await pool.send(EVIL, { event: '<b>greeting</b>', data: '<i>hello</i>' })
    await evil.event('<b>greeting</b>')
    const page = await openPage(origin)
    await waitFor(page, () => document.querySelectorAll('#streams-table .space .row').length === 3)
    expect(await textOf(page, '#channels-table .space .id')).toBe('news')

    await page.eval(() => {
      document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '/', bubbles: true }))
      const search = document.activeElement as HTMLInputElement
      search.value = 'IMG'
      search.dispatchEvent(new Event('input', { bubbles: true }))
    })
    await waitFor(page, () => document.querySelectorAll('#streams-table .space .row').length === 1)
    expect(await textOf(page, '#streams-table .space .id')).toBe(EVIL)

    await page.eval(() => {
      const row = document.querySelector<HTMLElement>('#streams-table .space .row')
      row?.focus()
      row?.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }))
    })
    await waitFor(page, () => document.querySelector('#sent li b'))
    expect(await textOf(page, '#sent li b')).toBe('<b>greeting</b>')
    expect(await textOf(page, '#sent li .data')).toBe('<i>hello</i>')
    expect(await page.eval(() => [document.title, document.images.length])).toEqual([
      'Inspector · koa-sse-pool',
      0,
    ])

    await press(page, '#detail-remove')
    await press(page, '#detail-remove[data-armed=true]')
    await evil.event('close')
    await waitFor(page, () => document.querySelector('#done')?.textContent !== '')
    expect(pool.stats().streams).toBe(2)
  })

  test('moves in the list by the keyboard, and keeps the row on the screen', async () => {
    const { pool, origin, open } = await serve(engine !== 'webkit')
    const ids = Array.from({ length: 60 }, (_, index) => `client-${String(index).padStart(2, '0')}`)
    const streams = await Promise.all(ids.map(open))
    const page = await openPage(origin)
    const press = async (key: Key) => {
      await page.key(key)
      return page.eval(current)
    }
    const shows = (id: string) => ({ id, isOnScreen: true, tabStops: 1 })

    await page.eval(() => document.querySelector<HTMLElement>('#follow')?.focus())
    expect(await press('Tab')).toEqual(shows('client-00'))
    expect(await press('ArrowUp')).toEqual(shows('client-00'))
    expect(await press('ArrowDown')).toEqual(shows('client-01'))
    expect(await press('ArrowDown')).toEqual(shows('client-02'))
    expect(await press('ArrowUp')).toEqual(shows('client-01'))
    const step = await page.eval(() => {
      const { clientHeight = 0 } = document.querySelector('#streams-table .body') ?? {}
      return Math.floor(clientHeight / 36) - 1
    })
    expect(step).toBeGreaterThan(5)
    expect(await press('PageDown')).toEqual(shows(ids[1 + step] as string))
    expect(await press('PageUp')).toEqual(shows('client-01'))
    expect(await press('End')).toEqual(shows('client-59'))
    expect(await press('PageDown')).toEqual(shows('client-59'))
    expect(await press('PageUp')).toEqual(shows(ids[59 - step] as string))
    expect(await press('End')).toEqual(shows('client-59'))

    await page.key('Enter')
    await waitFor(page, () => document.querySelector('#facts dd'))
    expect(await textOf(page, '#detail[open] #detail-title')).toBe('client-59')
    await page.key('Escape')
    await waitFor(page, () => !document.querySelector('#detail[open]'))
    expect(await page.eval(current)).toEqual(shows('client-59'))

    // The row goes away under the focus, which then stays in the list.
    streams.at(-1)?.close()
    await expect.poll(() => pool.stats().streams).toBe(59)
    await page.eval(() => {
      document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'r', bubbles: true }))
    })
    await waitFor(page, () => document.querySelector('#streams-count')?.textContent === '59')
    expect(await page.eval(current)).toEqual(shows('client-58'))
    expect(await press('Home')).toEqual(shows('client-00'))
  })

  test('runs under its policy: it opens its event stream', async () => {
    const { origin, live } = await serve(true)
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(`${origin}/inspector/`)
    await live
  })

  test('sends a test event, and speaks Chinese', async () => {
    const { origin, open } = await serve(engine !== 'webkit')
    const ada = await open('ada')
    const page = await openPage(origin)
    await page.eval(() => {
      const name = document.querySelector<HTMLInputElement>('#to-name')
      if (name) name.value = 'ada'
      document.querySelector<HTMLFormElement>('#send-form')?.requestSubmit()
    })
    expect((await ada.event('test')).data).toBe('Hello')
    await waitFor(page, () => document.querySelector('#done')?.textContent?.startsWith('Sent'))
    await press(page, '#language')
    expect(await textOf(page, '#streams-title')).toBe('事件流')
    expect(await page.eval(() => document.documentElement.lang)).toBe('zh-CN')
    await press(page, '#language')
    expect(await textOf(page, '#streams-title')).toBe('Streams')
  })
})

/** Runs in the page: the row that has the focus. */
function current() {
  const row = document.activeElement
  const body = row?.closest('.body')
  const { top = 0, bottom = 0 } = row?.getBoundingClientRect() ?? {}
  const frame = body?.getBoundingClientRect() ?? { top: 0, bottom: 0 }
  return {
    id: row?.firstChild?.textContent,
    // By half a pixel, as scroll offsets may be rounded.
    isOnScreen:
      top >= Math.max(0, frame.top) - 0.5 && bottom <= Math.min(innerHeight, frame.bottom) + 0.5,
    tabStops: document.querySelectorAll('#streams-table [tabindex="0"]').length,
  }
}

describe('the inspector with 10,000 streams', () => {
  test('loads them page by page, and has elements only for the rows on the screen', async () => {
    const { pool, app, origin } = await serve(true)
    // Over HTTP/2, as each stream of HTTP/1 takes two of the files that a process may open.
    const second = await listen(http2.createServer(app.callback()))
    for (let from = 0; from < 10_000; from += 100) {
      const session = session2(second.origin)
      const ids = Array.from({ length: 100 }, (_, index) => String(from + index).padStart(5, '0'))
      await Promise.all(ids.map(id => connect2(session, `/events?id=${id}`)))
    }
    expect(pool.stats().streams).toBe(10_000)
    const browser = await launch('chromium')
    onTestFinished(() => browser.close())
    const page = await browser.open()
    await page.goto(`${origin}/inspector/`)
    await waitFor(page, () => document.body.dataset.ready === 'true')
    expect(await textOf(page, '#streams-count')).toBe('200 of 10,000 loaded')
    await page.eval(() => {
      const row = document.querySelector<HTMLElement>('#streams-table .space .row')
      row?.focus()
    })
    // To the end of what is loaded, which loads more.
    await page.eval(() => {
      const event = new KeyboardEvent('keydown', { key: 'End', bubbles: true })
      document.activeElement?.dispatchEvent(event)
    })
    await waitFor(
      page,
      () => document.querySelector('#streams-count')?.textContent === '400 of 10,000 loaded',
    )
    const rows = await page.eval(() => document.querySelectorAll('#streams-table .row').length)
    expect(rows).toBeLessThan(60)
    expect(await page.eval(() => document.activeElement?.firstChild?.textContent)).toBe('00199')
    await page.eval(() => {
      const search = document.querySelector<HTMLInputElement>('#search')
      if (search) search.value = '09999'
      search?.dispatchEvent(new Event('input', { bubbles: true }))
    })
    await waitFor(page, () => document.querySelector('#streams-count')?.textContent === '1')
    expect(await textOf(page, '#streams-table .space .id')).toBe('09999')
  })
})
