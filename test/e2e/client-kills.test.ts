/**
 * Tabs are killed while they share a stream, a few in every run. `npm run tabs -- --kills 1000` kills as many
 * as you like.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { mutants } from '../client/mutants.js'
import { type Figures, killTabs } from '../tabs/kills.js'
import { bundleClient } from '../tabs/script.js'
import { type Browser, launch } from './browser.js'

const KILLS = Number(process.env.TABS_KILLS ?? 15)
const SEED = Number(process.env.TABS_SEED ?? Date.now() % 1e6)
const isLong = process.env.TABS_KILLS !== undefined
const ENGINES = (['chromium', 'firefox'] as const).filter(
  engine => (process.env.TABS_ENGINE ?? engine) === engine,
)

describe.each(ENGINES)('tabs in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine, { processPerTab: true })
  })
  afterAll(() => browser.close())

  const print = (figures: Figures) => console.log(`${engine} ${JSON.stringify(figures)}`)

  test(`lose, double and reorder nothing when ${KILLS} of them are killed (seed ${SEED})`, {
    timeout: 60_000 + KILLS * 10_000,
  }, async () => {
    const script = await bundleClient()
    const figures = await killTabs(browser, {
      ...{ seed: SEED, script },
      isEnough(now) {
        if (now.kills % 50 === 0) print(now)
        return now.kills >= KILLS
      },
    })
    print(figures)
    expect(figures).toMatchObject({ lost: 0, doubled: 0, outOfOrder: 0, gaps: 0 })
  })

  // One engine is enough for what the test itself can see.
  if (engine === 'firefox' || isLong) return
  test.each([
    ['shows again what the tab has had', 'doubled'],
    ['takes what is broadcast before it knows where the stream is', 'lost'],
  ] as const)('show it when the client has a bug: one that %s', async (name, figure) => {
    const script = await bundleClient(mutants[name])
    const figures = await killTabs(browser, {
      ...{ seed: 5, script },
      isEnough: now => now[figure] > 0 || now.kills >= 100,
    })
    expect(figures[figure]).toBeGreaterThan(0)
  })
})
