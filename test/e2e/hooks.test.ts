/** The hooks of docs/recipes.md, as components of React and Vue use them in a page. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fencesOf, readPage } from '../helpers/snippets.js'
import { bundle, pathOf } from '../tabs/script.js'
import { serveTabs, type TabSite, type TabSiteOptions } from '../tabs/site.js'
import { openPage } from '../tabs/tab.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { textOf } from './hooks-page.js'

const RECIPES = 'docs/recipes.md'
const FRAMEWORKS = [
  ['React', 'react', 'install(useEvents, false)'],
  ['React in StrictMode', 'react', 'install(useEvents, true)'],
  ['Vue', 'vue', 'install(useEvents)'],
] as const

test.each(['react', 'vue'])('the component of %s uses the hook as the recipe says', name => {
  const [, call] = /`(const status = useEvents\(.+\))`/.exec(readPage(RECIPES)) ?? []
  expect(call).toBeDefined()
  expect(readFileSync(pathOf(`../e2e/hooks-${name}.ts`), 'utf8')).toContain(call)
})

/** A script with the hook that the recipe has for this framework. */
function bundleHook(framework: string, install: string): Promise<string> {
  const hooks = fencesOf(RECIPES, readPage(RECIPES)).filter(
    ({ code }) => code.includes(`from '${framework}'`) && code.includes('function useEvents'),
  )
  expect(hooks).toHaveLength(1)
  return bundle({
    stdin: {
      contents: `import { install } from './hooks-${framework}.js'\n${hooks[0]?.code}\n${install}`,
      resolveDir: pathOf('../e2e'),
    },
    alias: { 'koa-sse-pool/client': pathOf('../../src/client/index.ts') },
    // Only the development build of React mounts twice in StrictMode.
    define: {
      'process.env.NODE_ENV': '"development"',
      __VUE_OPTIONS_API__: 'false',
      __VUE_PROD_DEVTOOLS__: 'false',
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    },
  })
}

describe.each(FRAMEWORKS)('useEvents of the recipe in %s', (_, framework, install) => {
  let script: string
  beforeAll(async () => {
    script = await bundleHook(framework, install)
  })

  describe.each(ENGINES)('in %s', engine => {
    let browser: Browser
    beforeAll(async () => {
      browser = await launch(engine)
    })
    afterAll(() => browser.close())

    /** A page in which these components are mounted and live. */
    async function mount(ids: string[], options: Omit<TabSiteOptions, 'script'> = {}) {
      const site = await serveTabs({ script, ...options })
      const page = await openPage(browser, site.origin)
      await render(page, ids)
      for (const id of ids) await shows(page, id, textOf('live', 1, 'nothing'))
      return { site, page }
    }

    test('gives the component its status, and calls its handlers', async () => {
      let isDown = false
      const { site, page } = await mount(['a'], {
        pool: { window: { events: 2 } },
        before(ctx, next) {
          if (!isDown) return next()
          ctx.status = 503
          return undefined
        },
      })
      await update(site, 'first')
      await shows(page, 'a', textOf('live', 1, 'first 0'))
      isDown = true
      site.cut()
      await shows(page, 'a', textOf('offline', 1, 'first 0'))
      for (const text of ['second', 'third', 'fourth']) await update(site, text)
      isDown = false
      // It has loaded once more because the stream is open, and again because of the gap.
      await shows(page, 'a', textOf('live', 3, 'first 0'))
      await update(site, 'fifth')
      await shows(page, 'a', textOf('live', 3, 'fifth 0'))
      await site.pool.remove('ada')
      await shows(page, 'a', textOf('ended', 3, 'fifth 0'))
    })

    test('does not connect again when the component renders', async () => {
      const { site, page } = await mount(['a'])
      await site.until(({ pool }) => pool.connections === 1)
      const { opened } = site.pool.stats()
      await render(page, ['a'], 1)
      await update(site, 'first')
      await shows(page, 'a', textOf('live', 1, 'first 1'))
      await render(page, ['a'], 2)
      await update(site, 'second')
      await shows(page, 'a', textOf('live', 1, 'second 2'))
      expect(site.pool.stats().opened).toBe(opened)
    })

    test('opens one stream for two components', async () => {
      const { site, page } = await mount(['a', 'b'])
      await site.until(({ pool }) => pool.connections === 1)
      await update(site, 'first')
      await shows(page, 'a', textOf('live', 1, 'first 0'))
      await shows(page, 'b', textOf('live', 1, 'first 0'))
      expect(site.pool.connections).toBe(1)
    })

    test('keeps the stream for the component that is left, and loses nothing', async () => {
      const { site, page } = await mount(['a', 'b'])
      await update(site, 'first')
      await shows(page, 'b', textOf('live', 1, 'first 0'))
      await render(page, ['b'], 1)
      await update(site, 'second')
      await waitFor(page, () => document.querySelector('#b')?.textContent?.includes('second 1'))
      await site.until(({ pool }) => pool.connections === 1)
    })

    test('closes the stream when the component is unmounted', async () => {
      const { site, page } = await mount(['a', 'b'])
      await render(page, [])
      await site.until(({ pool, requests }) => {
        return pool.connections === 0 && requests.every(({ isOpen }) => !isOpen)
      })
      expect(site.pool.size).toBe(0)
      expect(await page.eval(() => document.body.textContent)).toBe('')
    })
  })
})

function render(page: Page, ids: string[], version = 0): Promise<void> {
  return page.eval(feeds => window.render(feeds), { ids, version })
}

function shows(page: Page, id: string, text: string): Promise<void> {
  return waitFor(page, (i, t) => document.getElementById(i)?.textContent === t, id, text)
}

async function update({ pool }: TabSite, text: string): Promise<void> {
  await pool.send('ada', { event: 'update', data: { text } })
}
