import { once } from 'node:events'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { start } from '../../example/tokens/server.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { fireTransition, photograph, press, stateIs, textOf, wantsShots } from './page.js'

describe.each(ENGINES)('example/tokens in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  let example: Awaited<ReturnType<typeof start>>
  let page: Page

  describe('with a streamed response', () => {
    beforeEach(() => open({ everyMs: 15 }))

    test('streams the whole answer to a POST and ends', async () => {
      await ask('direct')
      await hasNote('done')
      await producerIs('finished')
      expect(await textOf(page, '#answer')).toBe(example.answer)
      expect(example.pool.size).toBe(0)
    })

    test('stops the producer when the page aborts', async () => {
      await ask('direct')
      await hasToken(10)
      await press(page, '#stop')
      await producerIs('stopped: the stream closed, client')
      expect(await isPartOfAnswer()).toBe(true)
      expect(example.pool.size).toBe(0)
    })

    test('loses the rest when the connection is cut, and stops the producer', async () => {
      await ask('direct')
      await hasToken(10)
      await press(page, '#cut')
      await hasNote('lost')
      await producerIs('stopped: the stream closed, client')
      expect(await isPartOfAnswer()).toBe(true)
    })
  })

  describe('with a job', () => {
    test('continues where it was cut off and loses or duplicates nothing', async () => {
      await open({ everyMs: 20, retryMs: 300 })
      await ask('jobs')
      await hasToken(20)
      await press(page, '#cut')
      await hasNote('cut')
      await hasNote('resumed')
      await hasNote('done')
      expect(await textOf(page, '#answer')).toBe(example.answer)
      expect(await replayed()).toBeGreaterThan(0)
      // The id of the close event is not shown, and not kept: it is no position to resume from.
      await lastIdIs('none')
      expect(example.pool.stats()).toMatchObject({ opened: 2, replays: 1, gaps: 0 })
    })

    test('gets the rest if the job has ended in the meantime', async () => {
      await open({ everyMs: 2, retryMs: 3000 })
      await ask('jobs')
      await hasToken(5)
      await press(page, '#cut')
      await producerIs('finished')
      await hasNote('done')
      expect(await textOf(page, '#answer')).toBe(example.answer)
    })

    test('continues after the page was in the back/forward cache', async () => {
      await open({ everyMs: 10 })
      await ask('jobs')
      await hasToken(10)
      const left = new Promise(resolve => example.pool.once('close', resolve))
      await fireTransition(page, 'pagehide')
      await left
      await fireTransition(page, 'pageshow')
      await hasNote('done')
      expect(await textOf(page, '#answer')).toBe(example.answer)
      expect(example.pool.stats()).toMatchObject({ opened: 2, replays: 1, gaps: 0 })
    })

    test('stops the producer when the page cancels', async () => {
      await open({ everyMs: 20 })
      await ask('jobs')
      await hasToken(10)
      await press(page, '#stop')
      await producerIs('stopped: cancelled')
      expect(await isPartOfAnswer()).toBe(true)
    })

    test('does not reconnect when the server has stopped the job', async () => {
      await open({ everyMs: 20, retryMs: 10 })
      await ask('jobs')
      await hasToken(10)
      const [job] = example.jobs.values()
      job?.stop.abort('abandoned')
      await hasNote('stopped')
      await lastIdIs('none')
      await stateIs(page, 'closed')
      expect(example.pool.stats()).toMatchObject({ opened: 1, streams: 0 })
    })

    test('stops the producer when no page has come back for a while', async () => {
      await open({ everyMs: 20, abandonMs: 1 })
      await ask('jobs')
      await hasToken(10)
      const [job] = example.jobs.values()
      const stopped = once(job?.stop.signal as AbortSignal, 'abort')
      await page.goto('about:blank')
      await stopped
      expect(job?.stop.signal.reason).toBe('abandoned')
      expect(job?.text.length).toBeLessThan(example.answer.length)
    })

    test('fetches the text when the log goes back no further', async () => {
      await open({ everyMs: 20, retryMs: 600, kept: 5 })
      await ask('jobs')
      await hasToken(20)
      await press(page, '#cut')
      await hasNote('gap')
      await hasNote('done')
      await waitFor(
        page,
        whole => document.querySelector('#answer')?.textContent === whole,
        example.answer,
      )
      expect(example.pool.stats()).toMatchObject({ gaps: 1 })
    })
  })

  if (wantsShots) {
    test('is photographed', { timeout: 120_000 }, async () => {
      await photograph('tokens', async shown => {
        await open({ everyMs: 30, retryMs: 1500 }, shown)
        await ask('jobs')
        await hasToken(50)
        await press(page, '#cut')
        await hasNote('resumed')
        await hasToken(130)
      })
    })
  }

  async function open(options: Parameters<typeof start>[0], shown?: Page): Promise<void> {
    const started = await start(options)
    example = started
    onTestFinished(async () => {
      await started.close()
      started.server.closeAllConnections()
    })
    page = shown ?? (await browser.open())
    if (!shown) onTestFinished(() => page.close())
    await page.goto(`http://127.0.0.1:${example.port}`)
  }

  async function ask(mode: 'direct' | 'jobs'): Promise<void> {
    await page.eval(
      value => document.querySelector<HTMLInputElement>(`[value="${value}"]`)?.click(),
      mode,
    )
    await press(page, '#ask')
    await stateIs(page, 'open')
  }

  function hasToken(n: number): Promise<void> {
    return waitFor(
      page,
      wanted => Number(document.querySelector('#received')?.textContent) >= wanted,
      n,
    )
  }

  function hasNote(name: string): Promise<void> {
    return waitFor(page, wanted => document.querySelector(`#log [data-note="${wanted}"]`), name)
  }

  function producerIs(state: string): Promise<void> {
    return waitFor(
      page,
      wanted => document.querySelector('#producer')?.textContent === wanted,
      state,
    )
  }

  function lastIdIs(id: string): Promise<void> {
    return waitFor(page, wanted => document.querySelector('#last-id')?.textContent === wanted, id)
  }

  function replayed(): Promise<number> {
    return page.eval(() => document.querySelectorAll('#answer [data-how="replayed"]').length)
  }

  async function isPartOfAnswer(): Promise<boolean> {
    const text = await textOf(page, '#answer')
    return text.length > 0 && text.length < example.answer.length && example.answer.startsWith(text)
  }
})
