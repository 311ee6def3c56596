/** Actions of the example tests in a page, for any engine. */
import { mkdir, writeFile } from 'node:fs/promises'
import { launch, type Page, waitFor } from './browser.js'
import { shrinkPng } from './png.js'

/** Clicks a button as soon as it is enabled. */
export async function press(page: Page, selector: string): Promise<void> {
  await waitFor(page, s => document.querySelector(`${s}:enabled`), selector)
  await page.eval(s => document.querySelector<HTMLButtonElement>(s)?.click(), selector)
}

/** Resolves when the page shows the state `open`, `connecting`, `closed` and so on. */
export function stateIs(page: Page, state: string): Promise<void> {
  return waitFor(
    page,
    s => document.querySelector<HTMLElement>('#state')?.dataset.state === s,
    state,
  )
}

/** Simulates the page entering or leaving the back/forward cache, which not all engines have. */
export function fireTransition(page: Page, type: 'pagehide' | 'pageshow'): Promise<void> {
  return page.eval(name => {
    dispatchEvent(new PageTransitionEvent(name, { persisted: true }))
  }, type)
}

/**
 * Simulates that the page becomes visible or hidden, and stays so. Otherwise only the tab that was opened last is
 * visible, or in WebKit, where each page has a window, all of them.
 */
export function setVisible(page: Page, isVisible: boolean): Promise<void> {
  return page.eval(isVisible => {
    Object.defineProperty(document, 'hidden', { value: !isVisible, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, isVisible)
}

export function textOf(page: Page, selector: string): Promise<string> {
  return page.eval(s => document.querySelector(s)?.textContent ?? '', selector)
}

/** Resolves when the first such element has exactly this text. */
export function textIs(page: Page, selector: string, text: string): Promise<void> {
  return waitFor(page, (s, t) => document.querySelector(s)?.textContent === t, selector, text)
}

/** Resolves when these are the texts of all such elements. */
export function textsAre(page: Page, selector: string, texts: string[]): Promise<void> {
  return waitFor(
    page,
    (s, wanted) => {
      const shown = Array.from(document.querySelectorAll(s), element => element.textContent)
      return JSON.stringify(shown) === JSON.stringify(wanted)
    },
    selector,
    texts,
  )
}

/** Whether to take the screenshots of the README files again: `SHOTS=1 npm run test:browser`. */
export const wantsShots = Boolean(process.env.SHOTS)

const EXAMPLES = new URL('../../example/', import.meta.url)
const CACHE = new URL('../../node_modules/.cache/koa-sse-pool/shots/', import.meta.url)

const WIDE = { width: 1280, height: 720 }
const PHONE = { width: 390, height: 844 }

/**
 * Plays a scene once in each colour scheme and viewport and photographs its end. The wide pictures are
 * for the README; those of a phone only help when the design is changed.
 */
export async function photograph(
  example: string,
  play: (page: Page) => Promise<void>,
): Promise<void> {
  await mkdir(CACHE, { recursive: true })
  for (const colorScheme of ['light', 'dark'] as const) {
    await shoot(WIDE, colorScheme, new URL(`${example}/${colorScheme}.png`, EXAMPLES))
    await shoot(PHONE, colorScheme, new URL(`${example}-phone-${colorScheme}.png`, CACHE))
  }

  async function shoot(viewport: typeof WIDE, colorScheme: 'light' | 'dark', file: URL) {
    const browser = await launch('chromium', { viewport, colorScheme })
    try {
      const page = await browser.open()
      await play(page)
      await writeFile(file, shrinkPng(await page.shot()))
    } finally {
      await browser.close()
    }
  }
}
