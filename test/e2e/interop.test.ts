/** docs/interop.md says what the clients do that run in a browser. Takes minutes, so only `npm run interop` runs all. */
import { afterAll, expect, test } from 'vitest'
import { nativeClient, pageClients } from '../interop/pages.js'
import { playAll, type Row } from '../interop/play.js'
import { isWriting, partOfPage, tableOf, writePart } from '../interop/table.js'
import { bundle, pathOf } from '../tabs/script.js'
import { type Browser, ENGINES, launch } from './browser.js'

const script = await bundle({ entryPoints: [pathOf('../interop/page.ts')] })
const rows: Record<string, Row> = {}
const browsers: Browser[] = []

afterAll(async () => {
  for (const browser of browsers) await browser.close()
})

test.skipIf(!isWriting).each(ENGINES)(
  'the EventSource of %s goes through all scenarios',
  { timeout: 300_000 },
  async engine => {
    const browser = await launch(engine)
    browsers.push(browser)
    const client = nativeClient(browser, script)
    rows[client.name] = await playAll(client, 4)
    console.log(tableOf({ [client.name]: rows[client.name] as Row }))
  },
)

test.skipIf(!isWriting)(
  'the clients for pages go through all scenarios in Chromium',
  { timeout: 900_000 },
  async () => {
    const browser = await launch('chromium')
    browsers.push(browser)
    for (const client of pageClients(browser, script)) {
      rows[client.name] = await playAll(client, 4)
      console.log(tableOf({ [client.name]: rows[client.name] as Row }))
    }
    const table = tableOf(rows)
    writePart('browser table', table)
    expect(partOfPage('browser table')).toBe(table)
  },
)
