/** Chromium by the DevTools protocol, and Firefox by WebDriver BiDi. */
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import puppeteer from 'puppeteer-core'
import { requireProgram } from '../setup/needs.js'
import type { Browser, LaunchOptions, Page } from './engine.js'
import { busiestOf, endWithUs, pagesOf } from './process.js'

const CHROMIUM_ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** One process for all tabs, which makes a new one cheap, and no transitions, which nobody sees. */
const FIREFOX_PREFS = {
  'dom.ipc.processCount': 1,
  'dom.ipc.processPrelaunch.enabled': false,
  'fission.autostart': false,
  'ui.prefersReducedMotion': 1,
}

/** Without these, tabs of one origin share processes, and one is started before there is a tab for it. */
const PROCESS_PER_TAB = {
  chromium: ['--disable-features=SpareRendererForSitePerProcess', '--renderer-process-limit=1000'],
  firefox: { 'dom.ipc.processCount': 1000, 'fission.autostart': true },
}

export async function launchPuppeteer(
  engine: 'chromium' | 'firefox',
  { viewport, colorScheme, languages, processPerTab = false }: LaunchOptions,
): Promise<Browser> {
  const userDataDir = await mkdtemp(join(tmpdir(), `koa-sse-pool-${engine}-`))
  const browser = await puppeteer.launch({
    ...(engine === 'chromium'
      ? {
          browser: 'chrome',
          args: [
            ...CHROMIUM_ARGS,
            `--lang=${languages.split(',')[0]}`,
            `--accept-lang=${languages}`,
            ...(processPerTab ? PROCESS_PER_TAB.chromium : []),
          ],
        }
      : {
          browser: 'firefox',
          extraPrefsFirefox: {
            ...FIREFOX_PREFS,
            'layout.css.prefers-color-scheme.content-override': colorScheme === 'dark' ? 0 : 1,
            'intl.accept_languages': languages,
            ...(processPerTab && PROCESS_PER_TAB.firefox),
          },
        }),
    executablePath: requireProgram(engine === 'chromium' ? 'chromium' : 'firefox-esr'),
    userDataDir,
    defaultViewport: viewport,
    headless: true,
    timeout: 60_000,
    acceptInsecureCerts: true,
  })
  const main = browser.process() as ChildProcess
  const callOff = endWithUs(main, userDataDir)

  return {
    engine,
    async open() {
      const before = processPerTab ? pagesOf(main) : []
      const page = await browser.newPage()
      let own: number[] = []
      // Only the protocol of Chromium supports this.
      if (engine === 'chromium') {
        await page.emulateMediaFeatures([
          { name: 'prefers-color-scheme', value: colorScheme },
          // A screenshot must not show a page in the middle of a transition.
          { name: 'prefers-reduced-motion', value: 'reduce' },
        ])
      }
      return {
        async goto(url) {
          await page.goto(url, { timeout: 60_000 })
          // The first navigation may change the process.
          if (!processPerTab) return
          own = pagesOf(main).filter(pid => !before.includes(pid))
          // The browser has started another one in advance. That of the page is the one that is busy with it.
          if (own.length > 1) own = await busiestOf(own, () => page.evaluate(keepBusy))
        },
        async eval(run, ...args) {
          try {
            // Puppeteer's types unwrap element handles, which our arguments never contain.
            return await page.evaluate(run as (...args: unknown[]) => never, ...args)
          } catch (error) {
            // Drops the stack of the page: vitest would look for its frames on disk and fail.
            throw new Error((error as Error).message)
          }
        },
        key: key => page.keyboard.press(key),
        shot: () => page.screenshot(),
        signal(signal) {
          const [pid] = own
          if (pid === undefined || own.length > 1) {
            throw new Error(`expected one process of the tab, found [${own}]`)
          }
          process.kill(pid, signal)
        },
        async setFrozen(isFrozen) {
          const session = await page.createCDPSession()
          await session.send('Page.setWebLifecycleState', { state: isFrozen ? 'frozen' : 'active' })
        },
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

/** Runs in the page. */
function keepBusy(): void {
  const end = performance.now() + 300
  while (performance.now() < end);
}
