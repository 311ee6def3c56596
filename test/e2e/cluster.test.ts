import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { start } from '../../example/cluster/server.js'
import { type Browser, launch, type Page, waitFor } from './browser.js'
import { photograph, press, textOf, wantsShots } from './page.js'

/** Many numbers, and outages that last several of them, so that there is something to miss. */
const FAST = { everyMs: 20, retryMs: 400, spreadMs: 100, restartMs: 200 }

let browser: Browser

beforeAll(async () => {
  browser = await launch('chromium')
})
afterAll(() => browser.close())

describe.each(['redis', 'cluster'] as const)('example/cluster on the %s log', log => {
  test('misses and duplicates nothing when the page’s process is killed three times, then drained (fault 36)', async () => {
    const page = await openPage(await startExample({ log, ...FAST }), 'ada')
    await received(page, 20)
    for (let kill = 1; kill <= 3; kill++) await leaveProcess(page, 'kill')
    await leaveProcess(page, 'drain')
    await received(page, 200)
    await expectAll(page)
    expect(await countOf(page, '[data-note="back"]')).toBe(4)
  })

  test('misses and duplicates nothing when all processes are killed at once', async () => {
    const page = await openPage(await startExample({ log, ...FAST, restartMs: 1000 }), 'ada')
    await received(page, 20)
    for (const name of 'ABC') await press(page, buttonOf(name, 'kill'))
    await notes(page, 'back', 1)
    await received(page, Number(await textOf(page, '#received')) + 20)
    await expectAll(page)
  })

  test('shows a killed process as down at once, although the page cannot be told (fault 110)', async () => {
    const slow = { ...FAST, restartMs: 600_000, retryMs: 600_000 }
    const page = await openPage(await startExample({ log, ...slow }), 'ada')
    const here = await hereOf(page)
    await press(page, buttonOf(here, 'kill'))
    await notes(page, 'lost', 1)
    // The page stays disconnected for the whole test, so all of this is its own knowledge.
    await textIncludes(page, `[data-name="${here}"] .state`, 'Down')
    for (const name of 'ABC'.replace(here, '')) {
      await textIncludes(page, `[data-name="${name}"] .state`, 'Ready')
      await press(page, buttonOf(name, 'kill'))
      await textIncludes(page, `[data-name="${name}"] .state`, 'Down')
    }
    expect(await countOf(page, '[data-note="back"]')).toBe(0)
  })

  test('shows where each client is connected, and any process knows it', async () => {
    const origin = await startExample({ log, ...FAST })
    const first = await openPage(origin, 'ada')
    const second = await openPage(origin, 'bob')
    expect(await hereOf(first)).not.toBe(await hereOf(second))
    for (const [page, id] of [
      [first, 'ada'],
      [second, 'bob'],
    ] as const) {
      await textIncludes(second, `[data-name="${await hereOf(page)}"] .whom`, id)
    }
    await press(first, '#ask')
    await textIncludes(first, '#counted', '2 clients, 2 streams')
    const pid = (await textOf(first, `[data-name="${await hereOf(first)}"] .pid`)).slice(4)
    await textIncludes(first, '#located', `:${pid}, 1 stream`)
  })

  test('leaves no process behind, even if it is killed itself', async () => {
    const server = fileURLToPath(new URL('../../example/cluster/server.js', import.meta.url))
    const env = { ...process.env, PORT: '0', ...(log === 'cluster' && { PATH: '' }) }
    const child = spawn(process.execPath, [server], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    child.stderr.resume() // the processes report there that their log is gone
    const [url] = await once(createInterface({ input: child.stdout }), 'line')
    await openPage(url, 'ada')
    child.kill('SIGKILL')
    // Everything that it started shares its stderr, which ends with the last process.
    expect(await once(child, 'close')).toEqual([null, 'SIGKILL'])
  })
})

if (wantsShots) {
  test('example/cluster is photographed', { timeout: 120_000 }, async () => {
    await photograph('cluster', async page => {
      const origin = await startExample({ restartMs: 60_000, everyMs: 150, retryMs: 2000 })
      await page.goto(`${origin}/?id=ada`)
      await received(page, 15)
      await openPage(origin, 'bob')
      await press(page, buttonOf(await hereOf(page), 'kill'))
      await notes(page, 'back', 1)
      await received(page, 48)
    })
  })
}

async function startExample(options: Parameters<typeof start>[0]): Promise<string> {
  const example = await start(options)
  onTestFinished(example.close)
  return `http://127.0.0.1:${example.port}`
}

/** Opens a page and waits until it is connected to a process and shows all three as ready. */
async function openPage(origin: string, id: string): Promise<Page> {
  const page = await browser.open()
  onTestFinished(() => page.close())
  await page.goto(`${origin}/?id=${id}`)
  await waitFor(page, () => document.querySelector('[data-here]'))
  await allReady(page)
  return page
}

/** Ends the page's process; waits until the page is on another one and all are ready again. */
async function leaveProcess(page: Page, action: 'kill' | 'drain'): Promise<void> {
  const here = await hereOf(page)
  const pid = await textOf(page, `[data-name="${here}"] .pid`)
  const times = await countOf(page, '[data-note="back"]')
  const replayed = await countOf(page, '[data-how="replayed"]')
  await press(page, buttonOf(here, action))
  await notes(page, 'back', times + 1)
  expect(await hereOf(page)).not.toBe(here)
  expect(await countOf(page, '[data-how="replayed"]')).toBeGreaterThan(replayed)
  await waitFor(
    page,
    (selector, before) => document.querySelector(selector)?.textContent !== before,
    `[data-name="${here}"] .pid`,
    pid,
  )
  await allReady(page)
}

/** Checks the page's own count and the numbers that it shows. */
async function expectAll(page: Page): Promise<void> {
  const seen = await page.eval(() => {
    const text = (selector: string) => document.querySelector(selector)?.textContent
    const columns = document.querySelectorAll<HTMLElement>('.number')
    return {
      missing: text('#missing'),
      doubled: text('#doubled'),
      gaps: document.querySelectorAll('[data-note="gap"]').length,
      numbers: [...columns].map(({ dataset }) => Number(dataset.n)).reverse(),
    }
  })
  const [first = 0] = seen.numbers
  const numbers = seen.numbers.map((_, i) => first + i)
  expect(seen).toEqual({ missing: '0', doubled: '0', gaps: 0, numbers })
}

function buttonOf(name: string, action: 'kill' | 'drain'): string {
  return `[data-name="${name}"] [data-action="${action}"]`
}

function hereOf(page: Page): Promise<string> {
  return page.eval(() => document.querySelector<HTMLElement>('[data-here]')?.dataset.name ?? '')
}

function countOf(page: Page, selector: string): Promise<number> {
  return page.eval(wanted => document.querySelectorAll(wanted).length, selector)
}

function allReady(page: Page): Promise<void> {
  return waitFor(page, () => document.querySelectorAll('[data-state="ready"]').length === 3)
}

function received(page: Page, count: number): Promise<void> {
  return waitFor(
    page,
    wanted => Number(document.querySelector('#received')?.textContent?.replace(',', '')) >= wanted,
    count,
  )
}

function notes(page: Page, kind: string, count: number): Promise<void> {
  return waitFor(
    page,
    (wanted, times) => document.querySelectorAll(`[data-note="${wanted}"]`).length >= times,
    kind,
    count,
  )
}

function textIncludes(page: Page, selector: string, text: string): Promise<void> {
  return waitFor(
    page,
    (wanted, part) => document.querySelector(wanted)?.textContent?.includes(part),
    selector,
    text,
  )
}
