/**
 * Whole pools with real HTTP streams against a model: whatever happens, each client gets every event that
 * was meant for it exactly once and in order, or a gap that is true. The model is in judge.ts.
 *
 * `MODEL_RUNS=100000` runs it for longer, `MODEL_SITE=redis` on one engine only, and
 * `MODEL_SEED=… MODEL_PATH=…` repeats a run that has failed.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RARE, type Script, scripts } from './commands.js'
import { SITES, Site, type SiteName } from './sites.js'
import { type Figures, World } from './world.js'

const { MODEL_RUNS, MODEL_SEED, MODEL_PATH, MODEL_SITE } = process.env
const seed = Number(MODEL_SEED ?? Math.trunc(Math.random() * 2 ** 31))

/** The share of each site, in percent. */
const SHARES: Record<SiteName, number> = {
  ...{ memory: 35, 'two pools': 30, cluster: 5, redis: 8, nats: 7, postgres: 7, sqlite: 8 },
}
const TOTAL = Number(MODEL_RUNS ?? 2000)
const names = SITES.filter(name => MODEL_SITE === undefined || MODEL_SITE === name)

test.each(names)(
  'every client gets its events once and in order, or a true gap: %s',
  {
    timeout: 120_000 + 500 * TOTAL,
  },
  async name => {
    const numRuns = MODEL_SITE === undefined ? Math.ceil((TOTAL * SHARES[name]) / 100) : TOTAL
    const figures: Figures = { sent: 0, received: 0, gaps: 0, resumed: 0, closed: 0 }
    let site: Site | undefined = await Site.start(name)
    const property = fc.asyncProperty(scripts(site), async script => {
      site ??= await Site.start(name)
      try {
        await new World(site).run(script, figures)
      } catch (error) {
        // What the next run finds must not depend on this one.
        const broken = site
        site = undefined
        await broken.stop().catch(() => {})
        throw error
      }
    })
    const replay = MODEL_PATH === undefined ? {} : { path: MODEL_PATH }
    const started = performance.now()
    try {
      const examples = RARE.map((script): [Script] => [script])
      const endOnFailure = process.env.MODEL_SHRINK === 'false'
      await fc.assert(property, { numRuns, seed, endOnFailure, examples, ...replay })
    } finally {
      const took = ((performance.now() - started) / 1000).toFixed(1)
      console.log(`${name}: seed ${seed}, ${took} s, ${JSON.stringify(figures)}`)
      await site?.stop()
    }
    // With less, the runs would prove little.
    if (numRuns >= 100 && MODEL_PATH === undefined) {
      for (const count of Object.values(figures)) expect(count).toBeGreaterThan(numRuns / 20)
    }
  },
)
