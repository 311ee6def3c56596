/**
 * The three engines behind one small interface, as no library drives all of them: Puppeteer for
 * Chromium and Firefox, plain WebDriver for WebKitGTK (which says nothing about Apple's Safari).
 */
import { launchPuppeteer } from './puppeteer.js'
import { launchWebKit } from './webkit.js'

export const ENGINES = ['chromium', 'firefox', 'webkit'] as const
export type Engine = (typeof ENGINES)[number]

export interface LaunchOptions {
  /** Of the page, in CSS pixels. */
  viewport: { width: number; height: number }
  colorScheme: 'light' | 'dark'
}

export interface Browser {
  readonly engine: Engine
  /** A new tab, in which nothing is loaded. */
  open(): Promise<Page>
  close(): Promise<void>
}

export interface Page {
  /** Resolves when the document and what it needs are loaded. */
  goto(url: string): Promise<void>
  /** Runs a function in the page; it sees its arguments and the page's globals, nothing else. */
  eval<Args extends unknown[], Result>(
    run: (...args: Args) => Result | Promise<Result>,
    ...args: Args
  ): Promise<Result>
  /** What is to be seen of the page, as PNG. */
  shot(): Promise<Uint8Array>
  close(): Promise<void>
}

/** Certificates are not checked, as those of the tests are signed by nobody. */
export function launch(engine: Engine, options: Partial<LaunchOptions> = {}): Promise<Browser> {
  const settled: LaunchOptions = {
    viewport: { width: 1280, height: 800 },
    colorScheme: 'light',
    ...options,
  }
  return engine === 'webkit' ? launchWebKit(settled) : launchPuppeteer(engine, settled)
}

/**
 * Resolves as soon as the condition holds in the page; looks again at each change of the document.
 * Puppeteer's own waiting polls by frames, and a tab in the background paints none.
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
