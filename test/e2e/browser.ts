/**
 * The three engines behind one small interface, because no library drives all of them: Puppeteer for
 * Chromium and Firefox, plain WebDriver for WebKitGTK (whose results do not hold for Apple's Safari).
 */
import type { Browser, Engine, LaunchOptions, Page } from './engine.js'
import { launchPuppeteer } from './puppeteer.js'
import { launchWebKit } from './webkit.js'

export { type Browser, ENGINES, type Page } from './engine.js'

/** Certificates are not checked, because those of the tests are self-signed. */
export function launch(engine: Engine, options: Partial<LaunchOptions> = {}): Promise<Browser> {
  const settled: LaunchOptions = {
    viewport: { width: 1280, height: 800 },
    colorScheme: 'light',
    ...options,
  }
  return engine === 'webkit' ? launchWebKit(settled) : launchPuppeteer(engine, settled)
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
