/** Tabs of a site, seen from a test. */
import { expect, onTestFinished } from 'vitest'
import type { PoolEventSourceOptions } from '../../src/client/options.js'
import type { Browser, Page } from '../e2e/browser.js'
import type { TabSite } from './site.js'

/** One after the other, see `processPerTab`. */
let opening: Promise<unknown> = Promise.resolve()

/** The test may close or kill it. */
export function openPage(browser: Browser, url: string): Promise<Page> {
  const opened = opening.then(async () => {
    const page = await browser.open()
    onTestFinished(() => page.close().catch(() => {}))
    await page.goto(url)
    return page
  })
  opening = opened.catch(() => {})
  return opened
}

/** A tab whose stream is live. Options must be JSON here; a page can call `tab.listen` with others itself. */
export async function openTab(
  browser: Browser,
  { origin }: Pick<TabSite, 'origin'>,
  options: PoolEventSourceOptions,
  number = 0,
): Promise<Page> {
  const page = await openPage(browser, `${origin}/?tab=${number}`)
  await page.eval(given => void window.tab.listen('/events', given), options)
  await hasStatus(page, 'live')
  return page
}

/** Resolves when the newest status is this one. */
export function hasStatus(page: Page, status: string): Promise<void> {
  return page.eval(name => window.tab.until(() => window.tab.events.status === name), status)
}

/** Resolves to all data as soon as this is among it. */
export function dataUpTo(page: Page, last: string | number): Promise<string[]> {
  return page.eval(async text => {
    await window.tab.until(({ data }) => data.includes(text))
    return window.tab.data
  }, String(last))
}

/** Waits for the last number, and checks that the page has had each from the first one on once and in order. */
export async function expectNumbers(page: Page, first: number, last: number): Promise<void> {
  expect(await dataUpTo(page, last)).toEqual(numbers(first, last))
}

export function numbers(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, i) => String(first + i))
}

/** Sends each of these numbers. */
export async function send({ pool }: TabSite, first: number, last: number): Promise<void> {
  for (const number of numbers(first, last)) await pool.send('ada', number)
}
