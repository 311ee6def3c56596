/** What the pages of all examples have in common: the header with its links, and the language. */

import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import Router from '@koa/router'
import Koa from 'koa'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { start as startChat } from '../../example/chat/server.js'
import { servePage } from '../../example/shared/serve.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { press, textIs, textOf } from './page.js'

const EXAMPLES = new URL('../../example/', import.meta.url)
const names = readdirSync(EXAMPLES).filter(name => name !== 'shared')

describe.each(ENGINES)('the header of the examples in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test('names the example, and changes the language of everything that is shown', async () => {
    const { port } = await serveChat()
    const page = await openPage(browser, `http://127.0.0.1:${port}/?me=ada&name=Ada`)
    await textIs(page, '#state', 'Connected')
    await textIs(page, '.brand', 'koa-sse-pool Chat')
    await textIs(page, '#members li', 'Ada (you)')
    await textIs(page, '#language', '中文')
    await press(page, '#language')
    await textIs(page, '#state', '已连接')
    await textIs(page, '.brand', 'koa-sse-pool 聊天')
    await textIs(page, '#members li', 'Ada（你）')
    await textIs(page, '#language', 'English')
    expect(await page.eval(() => [document.documentElement.lang, document.title])).toEqual([
      'zh-CN',
      '聊天 · koa-sse-pool',
    ])
    // The choice is remembered, and the URL no longer contradicts it.
    await page.goto(`http://127.0.0.1:${port}/`)
    await textIs(page, 'h1', '谁在线？')
    await page.goto(`http://127.0.0.1:${port}/?lang=en`)
    await textIs(page, 'h1', 'Who is here?')
    await press(page, '#language')
    await textIs(page, 'h1', '谁在线？')
    expect(await page.eval(() => location.search)).not.toContain('lang')
  })

  test('has a menu that leads to each other example, which Escape closes', async () => {
    const page = await openPage(browser, `${await servePageOf('chat')}/`)
    await textIs(page, 'h1', 'Who is here?')
    await page.eval(() => document.querySelector<HTMLElement>('#examples summary')?.click())
    const commands = await page.eval(() =>
      Array.from(document.querySelectorAll('#examples code'), code => code.textContent),
    )
    const others = names.filter(name => name !== 'chat')
    expect(commands).toEqual(others.map(name => `npm run example -- ${name}`))
    expect(await textOf(page, '#examples [aria-current] b')).toBe('Chat')
    await page.eval(() =>
      document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true })),
    )
    await waitFor(page, () => document.querySelector('#examples:not([open])'))
  })
})

test('the language is the first of the browser’s languages that there is', async () => {
  for (const [languages, heading] of [
    ['fr,zh-TW,en', '谁在线？'],
    ['fr,en-GB,zh', 'Who is here?'],
    ['fr', 'Who is here?'],
  ] as const) {
    const browser = await launch('chromium', { languages })
    onTestFinished(() => browser.close())
    const page = await openPage(browser, `${await servePageOf('chat')}/`)
    await textIs(page, 'h1', heading)
  }
})

describe.each(['en', 'zh'])('in %s, the page of', language => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch('chromium', { viewport: { width: 360, height: 740 } })
  })
  afterAll(() => browser.close())

  // Without a server behind it: what is shown before the first event.
  test.each(names)('example/%s fits a phone of 360 pixels, also with the menu open', async name => {
    const page = await openPage(browser, `${await servePageOf(name)}/?lang=${language}`)
    await waitFor(page, () => document.querySelector('h1')?.textContent)
    for (const isOpen of [false, true]) {
      const width = await page.eval(isOpen => {
        const menu = document.querySelector<HTMLDetailsElement>('#examples')
        if (menu) menu.open = isOpen
        const edges = Array.from(document.querySelectorAll('body > header *'), node =>
          Math.ceil(node.getBoundingClientRect().right),
        )
        return Math.max(document.documentElement.scrollWidth, ...edges)
      }, isOpen)
      expect(width).toBeLessThanOrEqual(360)
    }
  })
})

test('the links of the header lead to files that the server shows, and to nothing else', async () => {
  const origin = await servePageOf('progress')
  const html = await (await fetch(`${origin}/`)).text()
  const header = html.slice(html.indexOf('<nav>'), html.indexOf('</nav>'))
  const links = [...header.matchAll(/href="([^"]+)"/g)].map(([, href]) => href as string)
  expect(links).toHaveLength(names.length - 1 + 2)
  for (const href of links) {
    const response = await fetch(`${origin}/${href}`)
    expect(response.status, href).toBe(200)
    // Its links lead to files that are shown, too.
    const [first] = (await response.text()).match(/href="([^"]+)"/)?.slice(1) ?? []
    expect((await fetch(`${origin}${first}`)).status, `${href} → ${first}`).toBe(200)
  }
  for (const path of [
    'package.json',
    'example/progress/data/events.db',
    '../.env',
    'src/index.ts',
  ]) {
    expect((await fetch(`${origin}/source/${path}`)).status, path).toBe(404)
  }
})

async function serveChat() {
  const chat = await startChat({ graceMs: 0 })
  onTestFinished(async () => {
    const closed = chat.close()
    chat.server.closeAllConnections()
    await closed
  })
  return chat
}

/** Only the files of an example's page. */
async function servePageOf(name: string): Promise<string> {
  const router = new Router()
  servePage(router, new URL(`${name}/server.js`, EXAMPLES).href, moreOf(name))
  const server = createServer(new Koa().use(router.routes()).callback()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** The scripts that page.js imports. */
function moreOf(name: string): Record<string, URL> {
  const folder = new URL(`${name}/public/`, EXAMPLES)
  const scripts = readdirSync(folder).filter(file => file.endsWith('.js'))
  return Object.fromEntries(scripts.map(file => [`/${file}`, new URL(file, folder)]))
}

async function openPage(browser: Browser, url: string): Promise<Page> {
  const page = await browser.open()
  onTestFinished(() => page.close())
  await page.goto(url)
  return page
}
