/** What the tests of the examples do in a page, in any engine. */
import { mkdir, writeFile } from 'node:fs/promises'
import { launch, type Page, waitFor } from './browser.js'
import { shrinkPng } from './png.js'

/** Clicks a button as soon as it is enabled. */
export async function press(page: Page, selector: string): Promise<void> {
  await waitFor(page, s => document.querySelector(`${s}:enabled`), selector)
  await page.eval(s => document.querySelector<HTMLButtonElement>(s)?.click(), selector)
}

/** Resolves when the page says that it is `open`, `connecting`, `closed` and so on. */
export function stateIs(page: Page, state: string): Promise<void> {
  return waitFor(
    page,
    s => document.querySelector<HTMLElement>('#state')?.dataset.state === s,
    state,
  )
}

/** As when the page goes into the browser's cache, and comes back out of it; not all engines do that. */
export function fireTransition(page: Page, type: 'pagehide' | 'pageshow'): Promise<void> {
  return page.eval(name => {
    dispatchEvent(new PageTransitionEvent(name, { persisted: true }))
  }, type)
}

export function textOf(page: Page, selector: string): Promise<string> {
  return page.eval(s => document.querySelector(s)?.textContent ?? '', selector)
}

/** Whether the screenshots in the README files are to be made anew: `SHOTS=1 npm run test:browser`. */
export const wantsShots = Boolean(process.env.SHOTS)

const EXAMPLES = new URL('../../example/', import.meta.url)
const CACHE = new URL('../../node_modules/.cache/koa-sse-pool/shots/', import.meta.url)

const WIDE = { width: 1280, height: 720 }
const PHONE = { width: 390, height: 844 }

/**
 * Plays a scene once for each look, and photographs its end: for the README, and on a phone only for
 * whoever changes the design.
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
