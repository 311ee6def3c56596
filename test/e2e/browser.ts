/**
 * The three engines behind one small interface, because no library drives all of them: Puppeteer for
 * Chromium and Firefox, plain WebDriver for WebKitGTK (whose results do not hold for Apple's Safari).
 */
import { TestRunner } from 'vitest'
import type { Browser, Engine, LaunchOptions, Page } from './engine.js'
import { launchPuppeteer } from './puppeteer.js'
import { launchWebKit } from './webkit.js'

export { type Browser, ENGINES, type Key, type Page } from './engine.js'

/** Certificates are not checked, because those of the tests are self-signed. */
export async function launch(
  engine: Engine,
  options: Partial<LaunchOptions> = {},
): Promise<Browser> {
  const settled: LaunchOptions = {
    viewport: { width: 1280, height: 800 },
    colorScheme: 'light',
    languages: 'en-US,en',
    shots: Boolean(process.env.SHOTS),
    ...options,
  }
  const launched = await (engine === 'webkit'
    ? launchWebKit(settled)
    : launchPuppeteer(engine, settled))
  return { ...launched, open: async () => showingItsEnd(await launched.open()) }
}

/**
 * Prints what the page shows when a test closes it and has failed. A test that waits for something
 * which never appears says nothing else about the reason.
 */
function showingItsEnd(page: Page): Page {
  return {
    ...page,
    async close() {
      if (TestRunner.getCurrentTest()?.result?.state === 'fail') {
        const html = page.eval(
          () =>
            `${location.href} ${(document.querySelector('main') ?? document.body).outerHTML.slice(0, 5000)}`,
        )
        // A page that hangs does not answer.
        const silence = new Promise<string>(resolve => setTimeout(resolve, 5000, 'no answer'))
        console.error(`The page at the end: ${await Promise.race([html.catch(String), silence])}`)
      }
      await page.close()
    },
  }
}

/**
 * Resolves as soon as the condition holds in the page, which is checked at each change of the document.
 * Puppeteer's own waiting is driven by painted frames, and a tab in the background paints none.
 */
export function waitFor<Args extends unknown[]>(
  page: Page,
  condition: (...args: Args) => unknown,
  ...args: Args
): Promise<void> {
  return page.eval(
    async (source, given) => {
      const holds: (...args: unknown[]) => unknown = new Function(`return ${source}`)()
      await new Promise<void>(resolve => {
        const observer = new MutationObserver(check)
        observer.observe(document, {
          attributes: true,
          characterData: true,
          childList: true,
          subtree: true,
        })
        check()
        function check() {
          if (!holds(...given)) return
          observer.disconnect()
          resolve()
        }
      })
    },
    String(condition),
    args as unknown[],
  )
}
