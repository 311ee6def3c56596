import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { ClientPool } from 'koa-sse-pool'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { createApp } from '../../example/progress/app.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { fireTransition, photograph, textOf, wantsShots } from './page.js'

const STEPS = Array.from({ length: 20 }, (_, step) => (step + 1) * 5)

describe.each(ENGINES)('example/progress in %s', engine => {
  let browser: Browser
  let origin: string
  let pool: ReturnType<typeof createApp>['pool']

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  beforeEach(async () => {
    // An outage lasts several steps, so that there is something to miss.
    const testPool = new ClientPool({ pingInterval: 200 })
    const example = createApp({ pool: testPool, stepMs: 50, retryMs: 400 })
    pool = example.pool
    const server = http.createServer(example.app.callback()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    onTestFinished(async () => {
      await pool.close()
      server.close()
      server.closeAllConnections()
    })
  })

  if (wantsShots && engine === 'chromium') {
    test('is photographed', { timeout: 120_000 }, async () => {
      await photograph('progress', async page => {
        await page.goto(`${origin}/?id=ada`)
        await appears(page, '#start:enabled')
        await click(page, '#start')
        await progressReaches(page, 25)
        await click(page, '#cut')
        await appears(page, '[data-note="back"]')
        await progressReaches(page, 100)
      })
    })
  }

  test('brings a job to 100 and misses and duplicates nothing when the connection is cut', async () => {
    const page = await openPage('ada')
    await click(page, '#start')
    await progressReaches(page, 25)
    await click(page, '#cut')
    // Read from the notes in the page's log: the state itself may already have passed.
    await appears(page, '[data-note="lost"]')
    await appears(page, '[data-note="back"]')
    await progressReaches(page, 100)

    const { counts, ids, replayed } = await received(page)
    expect(counts).toEqual(STEPS)
    expect(new Set(ids).size).toBe(STEPS.length)
    expect(replayed).toBeGreaterThan(0)
    expect(pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
  })

  test('shows a heartbeat only while it is connected', async () => {
    const page = await openPage('ada')
    await appears(page, '#heartbeat:not([hidden])')
    await fireTransition(page, 'pagehide')
    await appears(page, '#heartbeat[hidden]')
  })

  test('reaches both tabs of one id, and closing one does not cut the other', async () => {
    const first = await openPage('ada')
    const second = await openPage('ada')
    await click(first, '#start')
    await progressReaches(first, 100)
    await progressReaches(second, 100)
    expect((await received(first)).counts).toEqual(STEPS)
    expect((await received(second)).counts).toEqual(STEPS)

    const oneLeft = new Promise(resolve => pool.once('close', resolve))
    await first.goto('about:blank')
    await oneLeft
    await click(second, '#start')
    await appears(second, '.job[data-done] ~ .job[data-done]')
    expect(pool.get('ada')?.streams.size).toBe(1)
  })

  test('finds its jobs again after a reload, and misses and duplicates nothing', async () => {
    const page = await browser.open()
    onTestFinished(() => page.close())
    // Without an id: the page that comes back must know who it was.
    await page.goto(`${origin}/`)
    await appears(page, '#start:enabled')
    await click(page, '#start')
    await progressReaches(page, 40)
    const client = await textOf(page, '#client')
    const left = new Promise(resolve => pool.once('close', resolve))
    await page.goto(await page.eval(() => location.href))
    await left
    await appears(page, '.job')
    await progressReaches(page, 100)

    expect(await textOf(page, '#client')).toBe(client)
    const { counts, ids, replayed } = await received(page)
    expect(counts).toEqual(STEPS)
    expect(new Set(ids).size).toBe(STEPS.length)
    expect(replayed).toBeGreaterThanOrEqual(8)
    // One for each page: its `pageshow` must not interrupt the first attempt.
    expect(pool.stats()).toMatchObject({ opened: 2, gaps: 0 })
  })

  test('ends the stream when the last page leaves, while its job goes on', async () => {
    const page = await openPage('ada')
    await click(page, '#start')
    await progressReaches(page, 10)
    const left = new Promise(resolve => pool.once('close', resolve))
    await page.goto('about:blank')
    await left
    expect(pool.has('ada')).toBe(false)
    const progress = async () =>
      Object.values(await (await fetch(`${origin}/event/jobs?id=ada`)).json())
    await expect.poll(progress).toEqual([100])
  })

  async function openPage(id: string): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(`${origin}/?id=${id}`)
    await appears(page, '#start:enabled')
    return page
  }
})

function click(page: Page, selector: string): Promise<void> {
  return page.eval(wanted => document.querySelector<HTMLElement>(wanted)?.click(), selector)
}

function appears(page: Page, selector: string): Promise<void> {
  return waitFor(page, wanted => document.querySelector(wanted), selector)
}

function progressReaches(page: Page, count: number): Promise<void> {
  return waitFor(
    page,
    wanted => Number(document.querySelector<HTMLProgressElement>('.job progress')?.value) >= wanted,
    count,
  )
}

/** The lines of the page's log, oldest first. */
function received(page: Page) {
  return page.eval(() => {
    const items = document.querySelectorAll<HTMLElement>('#log li[data-event="update"]')
    const inOrder = [...items].reverse()
    return {
      counts: inOrder.map(item => JSON.parse(item.querySelector('.data')?.textContent ?? '').count),
      ids: inOrder.map(item => item.dataset.id),
      replayed: inOrder.filter(item => item.hasAttribute('data-replayed')).length,
    }
  })
}
