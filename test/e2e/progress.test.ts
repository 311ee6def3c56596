import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { ClientPool } from 'koa-sse-pool'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createApp } from '../../example/progress/app.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { fireTransition, photograph, textOf, wantsShots } from './page.js'

const STEPS = Array.from({ length: 20 }, (_, step) => (step + 1) * 5)

describe.each(ENGINES)('example/progress in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  if (wantsShots && engine === 'chromium') {
    test('is photographed', { timeout: 120_000 }, async () => {
      await photograph('progress', async page => {
        const { origin } = await serve()
        await page.goto(`${origin}/?id=ada`)
        await appears(page, '#start:enabled')
        await press(page, '#start')
        await progressReaches(page, 25)
        await click(page, '#cut')
        await appears(page, '[data-note="back"]')
        await appears(page, '.job[data-state="done"]')
      })
    })
  }

  test('brings a job to 100 and misses and duplicates nothing when the connection is cut', async () => {
    const { origin, pool } = await serve()
    const page = await openPage(origin, 'ada')
    await press(page, '#start')
    await progressReaches(page, 25)
    await click(page, '#cut')
    // Read from the notes in the page's log: the state itself may already have passed.
    await appears(page, '[data-note="lost"]')
    await appears(page, '[data-note="back"]')
    await appears(page, '.job[data-state="done"]')

    const { counts, ids, replayed } = await received(page)
    expect(counts).toEqual(STEPS)
    expect(new Set(ids).size).toBe(STEPS.length)
    // Steps up to 25 may be older than the page's connection to the run.
    expect(replayed.filter(count => count > 25).length).toBeGreaterThan(0)
    expect(pool.stats()).toMatchObject({ gaps: 0 })
  })

  test('shows a heartbeat only while it is connected', async () => {
    const { origin } = await serve()
    const page = await openPage(origin, 'ada')
    await appears(page, '#heartbeat:not([hidden])')
    await fireTransition(page, 'pagehide')
    await appears(page, '#heartbeat[hidden]')
  })

  test('reaches both tabs of one id, and closing one does not cut the other', async () => {
    const { origin, pool } = await serve()
    const first = await openPage(origin, 'ada')
    const second = await openPage(origin, 'ada')
    await press(first, '#start')
    for (const page of [first, second]) {
      await appears(page, '.job[data-state="done"]')
      expect((await received(page)).counts).toEqual(STEPS)
    }

    const left = new Promise(resolve => pool.once('close', resolve))
    await first.goto('about:blank')
    await left
    await appears(second, '#start:enabled')
    await press(second, '#start')
    await appears(second, '.job[data-state="done"] ~ .job[data-state="done"]')
    expect(pool.get('ada')?.streams.size).toBe(1)
  })

  test('starts no third job while two are at work', async () => {
    const { origin, started } = await serve()
    const page = await openPage(origin, 'ada')
    await press(page, '#start')
    await appears(page, '.job')
    await press(page, '#start')
    await appears(page, '.job ~ .job')
    await appears(page, '#start:disabled')
    await click(page, '#start')
    await appears(page, '.job[data-state="done"] ~ .job[data-state="done"]')
    await appears(page, '#start:enabled')
    expect(started()).toBe(2)
  })

  test('finds its jobs again after a reload, and misses and duplicates nothing', async () => {
    const { origin, pool } = await serve()
    const page = await browser.open()
    onTestFinished(() => page.close())
    // Without an id: the reloaded page must know which client it was.
    await page.goto(`${origin}/`)
    await appears(page, '#start:enabled')
    await press(page, '#start')
    await progressReaches(page, 40)
    const client = await textOf(page, '#client')
    const left = new Promise(resolve => pool.once('close', resolve))
    await page.goto(await page.eval(() => location.href))
    await left
    await appears(page, '.job[data-state="done"]')

    expect(await textOf(page, '#client')).toBe(client)
    const { counts, ids, replayed } = await received(page)
    expect(counts).toEqual(STEPS)
    expect(new Set(ids).size).toBe(STEPS.length)
    expect(replayed.length).toBeGreaterThanOrEqual(8)
    expect(pool.stats()).toMatchObject({ gaps: 0 })
  })

  test('finds its jobs again after the browser was killed, at work or ended', async () => {
    const { origin, pool } = await serve()
    const doomed = await launchToKill(engine)
    const page = await doomed.browser.open()
    await page.goto(`${origin}/?id=ada`)
    await appears(page, '#start:enabled')
    await press(page, '#start')
    await progressReaches(page, 25)
    const left = new Promise(resolve => pool.once('close', resolve))
    doomed.kill()
    await left

    for (const visit of ['while it is at work', 'after it has ended']) {
      const again = await openPage(origin, 'ada')
      await appears(again, '.job[data-state="done"]')
      expect((await received(again)).counts, visit).toEqual(STEPS)
    }
  })

  test('ends the streams when the last page leaves, while its job goes on', async () => {
    const { origin, pool, runs } = await serve()
    const page = await openPage(origin, 'ada')
    await press(page, '#start')
    await progressReaches(page, 10)
    const left = new Promise<void>(resolve => {
      pool.on('close', () => {
        if (!pool.has('ada')) resolve()
      })
    })
    await page.goto('about:blank')
    await left
    const [job] = await (await fetch(`${origin}/event/jobs?id=ada`)).json()
    for await (const { data } of runs.read(job)) {
      if (JSON.parse(data).count === 100) return
    }
    throw new Error('The job has ended before 100 %')
  })

  test('says what waits when the browser opens no more connections, until one is free', async () => {
    const { origin } = await serve()
    const page = await openPage(origin, 'ada')
    // With the stream of the page, the six that a browser opens to a host over HTTP/1.1.
    await page.eval(() => {
      const others = Array.from(
        { length: 5 },
        (_, n) => new EventSource(`event/push?id=other-${n}`),
      )
      Object.assign(window, { others })
    })
    expect(await page.eval(() => document.querySelector<HTMLElement>('#held')?.hidden)).toBe(true)
    for (let job = 0; job < 2; job++) {
      const body = new URLSearchParams({ id: 'ada' })
      await fetch(`${origin}/event/progress`, { method: 'POST', body })
    }
    await appears(page, '#held:not([hidden])')
    expect(await textOf(page, '#held')).toContain('waiting for a connection')
    await page.eval(() => {
      for (const other of (window as unknown as { others: EventSource[] }).others) other.close()
    })
    await appears(page, '#held[hidden]')
    await appears(page, '.job[data-state="done"] ~ .job[data-state="done"]')
    expect((await received(page)).counts.sort((a, b) => a - b)).toEqual(
      STEPS.flatMap(step => [step, step]),
    )
  })

  test('names each colour that it shows', async () => {
    const { origin } = await serve()
    const page = await openPage(origin, 'ada')
    await press(page, '#start')
    await progressReaches(page, 25)
    await click(page, '#cut')
    await appears(page, '[data-note="back"]')
    await appears(page, '.job[data-state="done"]')
    // Those of the cells of jobs and of the dots of the log, as they are painted.
    const { named, shown } = await page.eval(() => {
      const colour = (node: Element, part?: string) => getComputedStyle(node, part).backgroundColor
      const all = (selector: string, part?: string) =>
        Array.from(document.querySelectorAll(selector), node => colour(node, part))
      return { named: all('.legend i'), shown: [...all('.cells i'), ...all('#log li', '::after')] }
    })
    expect(new Set(shown).size).toBeGreaterThanOrEqual(4)
    expect([...new Set(shown)].filter(each => !named.includes(each))).toEqual([])
  })

  test('shows the steps of a job only to its client', async () => {
    const { origin } = await serve()
    const page = await openPage(origin, 'ada')
    await press(page, '#start')
    await appears(page, '.job')
    const [job] = await (await fetch(`${origin}/event/jobs?id=ada`)).json()
    const headers = { Accept: 'text/event-stream' }
    const answer = await fetch(`${origin}/event/jobs/${job}?id=bob`, { headers })
    expect(answer.status).toBe(204)
  })

  async function openPage(origin: string, id: string): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(`${origin}/?id=${id}`)
    await appears(page, '#start:enabled')
    return page
  }
})

/** An outage lasts several steps, so that there is something to miss. */
async function serve() {
  const pool = new ClientPool({ pingInterval: 200 })
  const { app, runs, close } = createApp({ pool, stepMs: 50, retryMs: 400 })
  const jobs = new Set<string>()
  const start = runs.start.bind(runs)
  runs.start = (id, ...rest) => {
    jobs.add(id)
    return start(id, ...rest)
  }
  const server = http.createServer(app.callback()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    await close(() => pool.close())
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  return { origin: `http://127.0.0.1:${port}`, pool, runs, started: () => jobs.size }
}

/** A browser of its own, to be killed with all its processes, as a crash or a dead battery would end it. */
async function launchToKill(engine: Browser['engine']) {
  const before = children()
  const browser = await launch(engine)
  // The `sh` among them deletes the browser's folder when the tests end.
  const own = children().filter(pid => !before.includes(pid) && nameOf(pid) !== 'sh')
  const kill = () => {
    for (const pid of own) process.kill(-pid, 'SIGKILL')
  }
  return { browser, kill }
}

function children(): number[] {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
    .split(' ')
    .filter(Boolean)
    .map(Number)
}

function nameOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
}

function click(page: Page, selector: string): Promise<void> {
  return page.eval(wanted => document.querySelector<HTMLElement>(wanted)?.click(), selector)
}

/** Clicks as soon as it is enabled: another tab may take over the stream between a look and a click. */
function press(page: Page, selector: string): Promise<void> {
  return waitFor(
    page,
    wanted => {
      const button = document.querySelector<HTMLButtonElement>(`${wanted}:enabled`)
      button?.click()
      return button !== null
    },
    selector,
  )
}

function appears(page: Page, selector: string): Promise<void> {
  return waitFor(page, wanted => document.querySelector(wanted), selector)
}

function progressReaches(page: Page, count: number): Promise<void> {
  return waitFor(
    page,
    wanted => Number(document.querySelector<HTMLProgressElement>('.job progress')?.value) >= wanted,
    count,
  )
}

/** The lines of the page's log, oldest first. */
function received(page: Page) {
  return page.eval(() => {
    const items = document.querySelectorAll<HTMLElement>('#log li[data-event="update"]')
    const inOrder = [...items].reverse()
    return {
      counts: inOrder.map(item => JSON.parse(item.querySelector('.data')?.textContent ?? '').count),
      ids: inOrder.map(item => item.dataset.id),
      replayed: inOrder
        .filter(item => item.hasAttribute('data-replayed'))
        .map(item => JSON.parse(item.querySelector('.data')?.textContent ?? '').count),
    }
  })
}
