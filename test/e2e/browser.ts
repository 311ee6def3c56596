/** Chromium for browser tests: started for one file, and ended by its own handle. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import puppeteer, { type Browser } from 'puppeteer-core'
import { findProgram } from '../setup/needs.js'

export interface TestBrowser {
  readonly browser: Browser
  close(): Promise<void>
}

export async function launchChromium(): Promise<TestBrowser> {
  const executablePath = findProgram('chromium')
  if (executablePath === undefined) throw new Error('chromium is missing; run: npm run setup')
  const userDataDir = await mkdtemp(join(tmpdir(), 'koa-sse-pool-chromium-'))
  const browser = await puppeteer.launch({
    browser: 'chrome',
    executablePath,
    userDataDir,
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
  return {
    browser,
    async close() {
      await browser.close()
      await rm(userDataDir, { recursive: true, force: true })
    },
  }
}
