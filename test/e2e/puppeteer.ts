/** Chromium by the DevTools protocol, and Firefox by WebDriver BiDi. */
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import puppeteer, { type LaunchOptions as PuppeteerOptions } from 'puppeteer-core'
import { requireProgram } from '../setup/needs.js'
import type { Browser, LaunchOptions, Page } from './engine.js'
import { endWithUs } from './process.js'

const CHROMIUM: PuppeteerOptions = {
  browser: 'chrome',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
}

export async function launchPuppeteer(
  engine: 'chromium' | 'firefox',
  { viewport, colorScheme }: LaunchOptions,
): Promise<Browser> {
  const userDataDir = await mkdtemp(join(tmpdir(), `koa-sse-pool-${engine}-`))
  const browser = await puppeteer.launch({
    ...(engine === 'chromium'
      ? CHROMIUM
      : {
          browser: 'firefox',
          extraPrefsFirefox: {
            'layout.css.prefers-color-scheme.content-override': colorScheme === 'dark' ? 0 : 1,
          },
        }),
    executablePath: requireProgram(engine === 'chromium' ? 'chromium' : 'firefox-esr'),
    userDataDir,
    defaultViewport: viewport,
    headless: true,
    timeout: 60_000,
    acceptInsecureCerts: true,
  })
  const callOff = endWithUs(browser.process() as ChildProcess, userDataDir)

  return {
    engine,
    async open() {
      const page = await browser.newPage()
      // Only the protocol of Chromium supports this.
      if (engine === 'chromium') {
        await page.emulateMediaFeatures([
          { name: 'prefers-color-scheme', value: colorScheme },
          // A screenshot must not show a page in the middle of a transition.
          { name: 'prefers-reduced-motion', value: 'reduce' },
        ])
      }
      return {
        goto: async url => void (await page.goto(url, { timeout: 60_000 })),
        async eval(run, ...args) {
          try {
            // Puppeteer's types unwrap element handles, which our arguments never contain.
            return await page.evaluate(run as (...args: unknown[]) => never, ...args)
          } catch (error) {
            // Drops the stack of the page: vitest would look for its frames on disk and fail.
            throw new Error((error as Error).message)
          }
        },
        shot: () => page.screenshot(),
        close: () => page.close(),
      } satisfies Page
    },
    async close() {
      await browser.close()
      callOff()
      await rm(userDataDir, { recursive: true, force: true })
    },
  }
}
