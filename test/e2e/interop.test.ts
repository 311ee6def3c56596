/** docs/interop.md says what the clients do that run in a browser. Takes minutes, so only `npm run interop` plays it. */
import { afterAll, expect, test } from 'vitest'
import { Browsers, nativeClient, pageClients } from '../interop/pages.js'
import { playAll, type Row, turns } from '../interop/play.js'
import { isWriting, partOfPage, tableOf, writePart } from '../interop/table.js'
import { bundle, pathOf } from '../tabs/script.js'
import { type Browser, ENGINES, launch } from './browser.js'

const AT_ONCE = 3

const rows: Record<string, Row> = {}
const launched: Browser[] = []

afterAll(async () => {
  for (const browser of launched) await browser.close()
})

test.skipIf(!isWriting).each(ENGINES)(
  'the clients of %s go through all scenarios',
  { timeout: 900_000 },
  async engine => {
    const script = await bundle({ entryPoints: [pathOf('../interop/page.ts')] })
    const own = await Promise.all(Array.from({ length: AT_ONCE }, () => launch(engine)))
    launched.push(...own)
    const browsers = new Browsers(engine, own)
    const others = engine === 'chromium' ? pageClients(browsers, script) : []
    for (const client of [nativeClient(browsers, script), ...others]) {
      const row = await playAll(client, turns(AT_ONCE))
      rows[client.name] = row
      console.log(tableOf({ [client.name]: row }))
    }
  },
)

test.skipIf(!isWriting)('the table of the clients in browsers is written', () => {
  const names = ['Chromium', 'Firefox', 'WebKitGTK']
  // A run of some of the tests must not write half a table.
  for (const name of names) expect(Object.keys(rows)).toContain(name)
  const others = Object.keys(rows).filter(name => !names.includes(name))
  const sorted = [...names, ...others].map(name => [name, rows[name] as Row])
  const table = tableOf(Object.fromEntries(sorted))
  writePart('browser table', table)
  expect(partOfPage('browser table')).toBe(table)
})
