import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { start } from '../../example/broadcast/server.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { fireTransition, photograph, press, stateIs, textIs, textOf, wantsShots } from './page.js'

describe.each(ENGINES)('example/broadcast in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test('counts the connected clients and sends announcements to all of them', async () => {
    const { origin } = await startExample()
    const first = await openPage(origin)
    await textIs(first, '[data-value="count"]', '1')
    const second = await openPage(origin)
    await textIs(first, '[data-value="count"]', '2')
    await textIs(second, '[data-value="count"]', '2')

    await announce(second, 'The bakery <b>opens</b>')
    await textIs(first, '#log li span', 'The bakery <b>opens</b>')
    await textIs(second, '#log li span', 'The bakery <b>opens</b>')

    await fireTransition(second, 'pagehide')
    await textIs(first, '[data-value="count"]', '1')
    await fireTransition(second, 'pageshow')
    await textIs(first, '[data-value="count"]', '2')
    await second.goto('about:blank')
    await textIs(first, '[data-value="count"]', '1')
  })

  test('refuses politely when it is full, and latecomers get the next free place', async () => {
    const { origin, pool } = await startExample({ maxClients: 2 })
    await openPage(origin)
    const second = await openPage(origin)
    const third = await browser.open()
    onTestFinished(() => third.close())
    await third.goto(origin)
    await stateIs(third, 'full')
    expect(await isShown(third, '#count')).toBe(false)
    expect(pool.stats()).toMatchObject({ streams: 2, refused: { full: 1 } })

    await second.goto('about:blank')
    await stateIs(third, 'open')
    await waitFor(third, () => document.querySelector('#count:not([hidden])'))
    expect(await textOf(third, '#count')).toBe('2 of 2')
    expect(pool.stats()).toMatchObject({ streams: 2, opened: 3 })
  })

  test('shows no count before it knows one, and names the real bound of the memory (fault 110)', async () => {
    const { origin } = await startExample({ windowBytes: 3 * 2 ** 20 })
    const html = await (await fetch(origin)).text()
    expect(html).toContain('<p id="count" hidden ')
    const page = await openPage(origin)
    await textIs(page, '[data-value="window"]', '3 MiB')
    await textIs(page, '#count', '1 of 4')
    expect(await isShown(page, '#count')).toBe(true)
  })

  test('keeps its memory flat while 20 MB pass clients that do not read', async () => {
    const { origin, pool } = await startExample({ floodEvents: 20_000, burst: 200, pauseMs: 15 })
    const page = await openPage(origin)
    for (const n of ['1', '2']) {
      await press(page, '#silent')
      await textIs(page, '#silent-count', n)
    }
    // The first flood fills the window and the sockets of the clients that do not read.
    await press(page, '#flood')
    await floodArrives(page, 20_000)
    const before = Number(await textOf(page, '[data-value="memory"]'))
    expect(before).toBeGreaterThan(0)

    await press(page, '#flood')
    await floodArrives(page, 40_000)
    const after = Number(await textOf(page, '[data-value="memory"]'))
    expect(after - before).toBeLessThan(6)
    expect(pool.stats()).toMatchObject({ streams: 3, lagging: 2 })
    expect(Number(await textOf(page, '[data-value="unread"]'))).toBeGreaterThan(70)

    await press(page, '#release')
    await textIs(page, '[data-value="count"]', '1')
    expect(pool.stats()).toMatchObject({ streams: 1, lagging: 0 })
  })

  if (wantsShots) {
    test('is photographed', { timeout: 120_000 }, async () => {
      await photograph('broadcast', async page => {
        const { origin } = await startExample({ pauseMs: 40 })
        await page.goto(origin)
        await stateIs(page, 'open')
        await announce(page, 'Here comes the flood.')
        for (const n of ['1', '2']) {
          await press(page, '#silent')
          await textIs(page, '#silent-count', n)
        }
        await press(page, '#flood')
        await floodArrives(page, 30_000)
        await press(page, '#flood')
        await floodArrives(page, 60_000)
        await announce(page, 'Sixty thousand events later.')
        await waitFor(page, () => document.querySelectorAll('#log li').length === 2)
      })
    })
  }

  async function startExample(options: Parameters<typeof start>[0] = {}) {
    const example = await start(options)
    onTestFinished(async () => {
      await example.close()
      example.server.closeAllConnections()
    })
    return { ...example, origin: `http://127.0.0.1:${example.port}` }
  }

  async function openPage(origin: string): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(origin)
    await stateIs(page, 'open')
    return page
  }
})

async function announce(page: Page, text: string): Promise<void> {
  await page.eval(given => {
    const input = document.querySelector<HTMLInputElement>('#text')
    if (input) input.value = given
    document.querySelector<HTMLFormElement>('#form')?.requestSubmit()
  }, text)
}

function isShown(page: Page, selector: string): Promise<boolean> {
  return page.eval(s => document.querySelector<HTMLElement>(s)?.offsetParent !== null, selector)
}

/** Waits until each event of the flood has arrived or was counted as missing after a gap. */
function floodArrives(page: Page, events: number): Promise<void> {
  return waitFor(
    page,
    wanted => {
      const number = (selector: string) =>
        Number(document.querySelector(selector)?.textContent?.replaceAll(',', ''))
      const { disabled } = document.querySelector('#flood') as HTMLButtonElement
      return number('#received') + number('#missing') === wanted && !disabled
    },
    events,
  )
}
