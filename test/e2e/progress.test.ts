import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Page } from 'puppeteer-core'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { createApp } from '../../example/progress/app.js'
import { launchChromium, type TestBrowser } from './browser.js'

const STEPS = Array.from({ length: 20 }, (_, step) => (step + 1) * 5)

/** A tab in the background paints nothing, so Puppeteer's own polling would wait for ever. */
const IN_BACKGROUND = { polling: 'mutation' } as const

let chromium: TestBrowser

beforeAll(async () => {
  chromium = await launchChromium()
})
afterAll(() => chromium.close())

describe('example/progress in Chromium', () => {
  let origin: string
  let pool: ReturnType<typeof createApp>['pool']

  beforeEach(async () => {
    // A cut lasts several steps, so that there is something to miss.
    const example = createApp({ stepMs: 50, retryMs: 400 })
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

  test('brings a job to 100, and misses and doubles nothing when the connection is cut', async () => {
    const page = await openPage('ada')
    await page.click('#start')
    await progressReaches(page, 25)
    await page.click('#cut')
    await page.waitForSelector('#state[data-state="connecting"]')
    await page.waitForSelector('#state[data-state="open"]')
    await progressReaches(page, 100)

    const { counts, ids, replayed } = await received(page)
    expect(counts).toEqual(STEPS)
    expect(new Set(ids).size).toBe(STEPS.length)
    expect(replayed).toBeGreaterThan(0)
    expect(pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
  })

  test('reaches both tabs of one id, and one that closes does not cut the other', async () => {
    const first = await openPage('ada')
    const second = await openPage('ada')
    await first.bringToFront()
    await first.click('#start')
    await progressReaches(first, 100)
    await progressReaches(second, 100)
    expect((await received(first)).counts).toEqual(STEPS)
    expect((await received(second)).counts).toEqual(STEPS)

    const oneLeft = new Promise(resolve => pool.once('close', resolve))
    await first.goto('about:blank')
    await oneLeft
    await second.bringToFront()
    await second.click('#start')
    await second.waitForFunction(
      () => document.querySelectorAll('.job[data-done]').length === 2,
      IN_BACKGROUND,
    )
    expect(pool.get('ada')?.streams.size).toBe(1)
  })

  test('ends the stream and the jobs when the last page leaves, by its beacon', async () => {
    const page = await openPage('ada')
    await page.click('#start')
    await progressReaches(page, 10)
    const left = new Promise(resolve => pool.once('close', resolve))
    await page.goto('about:blank')
    await left
    expect(pool.has('ada')).toBe(false)
  })

  async function openPage(id: string): Promise<Page> {
    const page = await chromium.browser.newPage()
    onTestFinished(() => page.close())
    await page.goto(`${origin}/?id=${id}`)
    await page.waitForSelector('#start:enabled')
    return page
  }
})

async function progressReaches(page: Page, count: number): Promise<void> {
  await page.waitForFunction(
    wanted => Number(document.querySelector<HTMLProgressElement>('.job progress')?.value) >= wanted,
    IN_BACKGROUND,
    count,
  )
}

/** What the page's log shows, oldest first. */
async function received(page: Page) {
  return page.$$eval('#log li[data-event="update"]', items => {
    const inOrder = items.reverse() as HTMLElement[]
    return {
      counts: inOrder.map(item => JSON.parse(item.querySelector('.data')?.textContent ?? '').count),
      ids: inOrder.map(item => item.dataset.id),
      replayed: inOrder.filter(item => item.hasAttribute('data-replayed')).length,
    }
  })
}
