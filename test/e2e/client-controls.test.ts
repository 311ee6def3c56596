/**
 * `npm run controls` puts PoolEventSource and other clients through the same scenarios and writes the table of
 * docs/client.md. No part of `npm test`, because what a client does not do shows only by time.
 */
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { scenarios } from '../tabs/controls.js'
import { bundle, pathOf } from '../tabs/script.js'
import { type Browser, launch } from './browser.js'

const OURS = 'koa-sse-pool/client'
const NATIVE = 'EventSource'
const OTHERS = [
  NATIVE,
  'eventsource',
  'event-source-polyfill',
  '@microsoft/fetch-event-source',
  'sse.js',
  'eventsource-client',
  'reconnecting-eventsource',
]
const NOTE = `In Chromium, against a koa-sse-pool that asks for \`retry: 100\`. "No" is what has not happened within 15
seconds. Each client has the options that help it most, and its page listens to \`sse.gap\`.`

const scenarioNames = Object.keys(scenarios)

let browser: Browser
let script: string
const results = new Map<string, Record<string, string>>()

beforeAll(async () => {
  browser = await launch('chromium', { processPerTab: true })
  script = await bundle({ entryPoints: [pathOf('../tabs/clients.ts')] })
})
afterAll(() => browser.close())

test.each([OURS, ...OTHERS])(
  '%s goes through all scenarios',
  {
    timeout: 300_000,
  },
  async client => {
    const result: Record<string, string> = {}
    results.set(client, result)
    for (const [name, play] of Object.entries(scenarios)) {
      result[name] = await play({ browser, script, client })
    }
    console.log(client, result)
    if (client !== OURS) return
    const { 'attempts in 15 s while the server is down': attempts, ...others } = result
    // Without a back-off there would be some 150.
    expect(Number(attempts)).toBeLessThan(30)
    expect(others).toEqual({
      ...Object.fromEntries(Object.keys(others).map(name => [name, 'yes'])),
      'eight tabs on HTTP/1.1': '8 live, 1 connection',
    })
  },
)

test('the table is written', async () => {
  const clients = [OURS, ...OTHERS]
  // A run of some of the tests must not write half a table.
  const complete = clients.filter(client =>
    scenarioNames.every(name => results.get(client)?.[name]),
  )
  expect(complete).toEqual(clients)
  const rows = scenarioNames.map(name => [
    name,
    ...clients.map(client => results.get(client)?.[name] ?? ''),
  ])
  const sizes = await Promise.all(clients.map(sizeOf))
  const heads = clients.map(client => `${client}${versionOf(client)}`)
  const table = tableOf([['', ...heads], ...rows, ['bytes, minified and gzipped', ...sizes]])
  const page = pathOf('../../docs/client.md')
  await writeFile(page, withTable(await readFile(page, 'utf8'), `${table}\n\n${NOTE}`))
})

/** A table in Markdown, aligned, because no formatter reads the page. */
function tableOf([head = [], ...rows]: string[][]): string {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map(row => row[i]?.length ?? 0)))
  const line = (cells: string[]) => {
    return `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`
  }
  return [head, widths.map(width => '-'.repeat(width)), ...rows].map(line).join('\n')
}

function withTable(page: string, table: string): string {
  const place = /(?<=<!-- control table -->\n).*?(?=\n<!-- \/control table -->)/s
  if (!place.test(page)) throw new Error('docs/client.md has no place for the control table')
  return page.replace(place, () => table)
}

async function sizeOf(client: string): Promise<string> {
  if (client === NATIVE) return '0'
  const from = client === OURS ? pathOf('../../src/client/index.ts') : client
  const stdin = { contents: `export * from '${from}'`, resolveDir: pathOf('.') }
  const text = await bundle({ stdin, minify: true, format: 'esm', platform: 'browser' })
  return gzipSync(text).length.toLocaleString('en')
}

function versionOf(client: string): string {
  if (client === OURS || client === NATIVE) return ''
  const { version } = JSON.parse(
    readFileSync(pathOf(`../../node_modules/${client}/package.json`), 'utf8'),
  )
  return ` ${version}`
}
