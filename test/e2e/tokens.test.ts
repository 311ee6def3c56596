import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { answers } from '../../example/tokens/answers.js'
import { start } from '../../example/tokens/server.js'
import { RedisServer } from '../helpers/redis.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { fireTransition, photograph, press, stateIs, wantsShots } from './page.js'

const [QUESTION = '', SECOND = ''] = answers.keys()
const ANSWER = answers.get(QUESTION) as string

describe.each(ENGINES)('example/tokens in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  let example: Awaited<ReturnType<typeof serve>>

  beforeEach(async () => {
    example = await serve()
  })

  if (wantsShots && engine === 'chromium') {
    test('is photographed', { timeout: 120_000 }, async () => {
      await photograph('tokens', async page => {
        const { port } = await serve({ everyMs: 30, upTo: Infinity, retryMs: 1500 })
        await page.goto(`http://127.0.0.1:${port}`)
        await waitFor(page, () => document.querySelector('#ask:enabled'))
        await choose(page, SECOND)
        await press(page, '#ask')
        await stateIs(page, 'open')
        await press(page, '#stop')
        await hasNote(page, 'stopped')
        await press(page, '#new')
        await choose(page, QUESTION)
        await press(page, '#ask')
        await hasTokens(page, 30)
        await press(page, '#cut')
        await hasNote(page, 'resumed')
        await hasTokens(page, 110)
      })
    })
  }

  test('writes the whole answer, and stores it when it has ended', async () => {
    const page = await openPage()
    await press(page, '#ask')
    // The end is noted by a page that reads. One that comes later finds the answer stored.
    await hasTokens(page, 1)
    hurry()
    await hasNote(page, 'done')
    expect(await answerOf(page)).toBe(ANSWER)
    await isStored(page)
    expect(messages()).toEqual([
      { role: 'user', text: QUESTION },
      { role: 'assistant', text: ANSWER, state: 'done' },
    ])
    await page.goto(await page.eval(() => location.href))
    await answerIs(page, ANSWER)
  })

  test('goes on when the page is reloaded, which then gets it from the beginning', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 20)
    await reload(page)
    await hasTokens(page, 30)
    hurry()
    await hasNote(page, 'done')
    expect(await answerOf(page)).toBe(ANSWER)
    expect((await replayed(page)).length).toBeGreaterThan(0)
    expect(ANSWER.startsWith(await replayed(page))).toBe(true)
  })

  test('is stored when no page is open', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 5)
    const url = await page.eval(() => location.href)
    await page.goto('about:blank')
    hurry()
    const [conversation] = example.conversations.values()
    const id = conversation?.running as string
    let text = ''
    for await (const { data } of example.processes[0]?.runs.read(id) ?? []) text += data
    expect(text).toBe(ANSWER)
    await page.goto(url)
    await answerIs(page, ANSWER)
  })

  test('grows in two tabs at once, and is stopped from the other one', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 10)
    const other = await openPage(await page.eval(() => location.href))
    await hasTokens(other, 20)
    await hasTokens(page, 20)
    await press(other, '#stop')
    for (const tab of [page, other]) {
      await hasNote(tab, 'stopped')
      await stateIs(tab, 'closed')
    }
    const text = await answerOf(page)
    expect(text.length).toBeLessThan(ANSWER.length)
    expect(ANSWER.startsWith(text)).toBe(true)
    expect(await answerOf(other)).toBe(text)
    await isStored(page)
    expect(messages()[1]).toEqual({ role: 'assistant', text, state: 'stopped' })
  })

  test('shows a question that was asked in another tab, on the other process', async () => {
    const page = await openPage()
    const other = await openPage((await page.eval(() => location.href)).replace('=a', '=b'))
    await waitFor(other, () => document.querySelector<HTMLInputElement>('[value="b"]')?.checked)
    await press(page, '#ask')
    await hasTokens(other, 10)
    hurry()
    for (const tab of [page, other]) {
      await hasNote(tab, 'done')
      expect(await answerOf(tab)).toBe(ANSWER)
    }
  })

  test('continues where it was cut off and loses or duplicates nothing', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 20)
    // Written while the page is cut off, so that there is something to replay.
    example.processes[0]?.pool.on('close', () => {
      example.pace.upTo = 100
    })
    await press(page, '#cut')
    await hasNote(page, 'cut')
    await hasNote(page, 'resumed')
    hurry()
    await hasNote(page, 'done')
    expect(await answerOf(page)).toBe(ANSWER)
    expect((await replayed(page)).length).toBeGreaterThan(0)
    expect(gaps()).toBe(0)
  })

  test('continues after the page was in the back/forward cache', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 10)
    await fireTransition(page, 'pagehide')
    await fireTransition(page, 'pageshow')
    hurry()
    await hasNote(page, 'done')
    expect(await answerOf(page)).toBe(ANSWER)
    expect(gaps()).toBe(0)
  })

  test('continues on the other process in mid-answer, and can be stopped there', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 20)
    await choose(page, 'b')
    await hasTokens(page, 40)
    expect(example.processes[1]?.pool.stats()).toMatchObject({ streams: 2 })
    const text = await answerOf(page)
    expect(ANSWER.startsWith(text)).toBe(true)
    await press(page, '#stop')
    await hasNote(page, 'stopped')
    await isStored(page)
    expect(messages()[1]).toMatchObject({ state: 'stopped' })
    expect(gaps()).toBe(0)
  })

  test('is written once if the question is submitted twice', async () => {
    const page = await openPage()
    const answered = await page.eval(async () => {
      const responses: Promise<Response>[] = []
      const { fetch } = window
      window.fetch = (...args) => {
        const response = fetch(...args)
        if (args[1]?.method === 'POST') responses.push(response)
        return response
      }
      const form = document.querySelector<HTMLFormElement>('#form')
      form?.requestSubmit()
      form?.requestSubmit()
      window.fetch = fetch
      return (await Promise.all(responses)).map(({ status }) => status)
    })
    expect(answered).toEqual([202, 202])
    await hasTokens(page, 1)
    hurry()
    await hasNote(page, 'done')
    expect(await answerOf(page)).toBe(ANSWER)
    await isStored(page)
    expect(messages()).toHaveLength(2)
  })

  test('says so when the process that wrote it has ended, and keeps what there is of it', async () => {
    const page = await openPage(`http://127.0.0.1:${example.port}/?process=b`)
    await press(page, '#ask')
    await hasTokens(page, 10)
    await choose(page, 'a')
    await hasTokens(page, 20)
    await example.processes[1]?.runs.close({ timeout: 0 })
    await hasNote(page, 'lost')
    const text = await answerOf(page)
    expect(ANSWER.startsWith(text)).toBe(true)
    await isStored(page)
    expect(messages()[1]).toMatchObject({ state: 'lost', text })
  })

  test('leaves a running answer for another conversation, and finds it again', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 10)
    await press(page, '#new')
    await waitFor(page, () => document.querySelector('#messages')?.childElementCount === 0)
    await choose(page, SECOND)
    await press(page, '#ask')
    await hasTokens(page, 5)
    await press(page, '#list li:last-child button')
    hurry()
    await answerIs(page, ANSWER)
    await press(page, '#list li:first-child button')
    await answerIs(page, answers.get(SECOND) as string)
    expect(await page.eval(() => document.querySelectorAll('#list li').length)).toBe(2)
  })

  test('is not set back by a list of conversations that an event has overtaken', async () => {
    const page = await openPage()
    await press(page, '#ask')
    await hasTokens(page, 10)
    await page.eval(() => {
      const { fetch } = window
      window.fetch = async (...args) => {
        const response = await fetch(...args)
        if (!String(args[0]).endsWith('/conversations')) return response
        const list = await response.json()
        const released = new Promise(resolve => document.addEventListener('release', resolve))
        document.body.dataset.held = ''
        return Object.assign(response, { json: () => released.then(() => list) })
      }
    })
    await choose(page, 'b')
    await waitFor(page, () => document.body.dataset.held !== undefined)
    hurry()
    await isStored(page)
    await page.eval(() => document.dispatchEvent(new Event('release')))
    expect(await page.eval(() => document.querySelector('#list em')?.textContent)).toBe('')
  })

  async function openPage(url = `http://127.0.0.1:${example.port}`): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(url)
    await waitFor(page, () => document.querySelector('#ask:enabled, #stop:enabled'))
    return page
  }

  /** The rest of the answers comes at once. */
  function hurry(): void {
    Object.assign(example.pace, { everyMs: 0, upTo: Infinity })
  }

  /** What is stored of the only conversation. The ids are random. */
  function messages() {
    const [conversation] = example.conversations.values()
    return conversation?.messages.map(({ id, ...message }) => message) ?? []
  }

  function gaps(): number {
    return example.processes.reduce((sum, { pool }) => sum + pool.stats().gaps, 0)
  }
})

test('with the answers in Redis, an answer is read and stopped through the other process', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  vi.stubEnv('REDIS_URL', redis.url)
  onTestFinished(() => void vi.unstubAllEnvs())
  const browser = await launch('chromium')
  onTestFinished(() => browser.close())
  const example = await serve()
  const page = await browser.open()
  await page.goto(`http://127.0.0.1:${example.port}`)
  await press(page, '#ask')
  await hasTokens(page, 10)
  await choose(page, 'b')
  await hasTokens(page, 20)
  await reload(page)
  await hasTokens(page, 30)
  // By the process that does not write it.
  await press(page, '#stop')
  await hasNote(page, 'stopped')
  const text = await answerOf(page)
  expect(text.length).toBeLessThan(ANSWER.length)
  expect(ANSWER.startsWith(text)).toBe(true)
  expect(await redis.command('KEYS', '*koa-sse-pool:tokens*')).not.toEqual([])
})

test('the chat fits a phone of 360 pixels', async () => {
  const browser = await launch('chromium', { viewport: { width: 360, height: 740 } })
  onTestFinished(() => browser.close())
  const { port } = await serve()
  const page = await browser.open()
  await page.goto(`http://127.0.0.1:${port}`)
  await press(page, '#ask')
  await hasTokens(page, 20)
  expect(await page.eval(() => document.documentElement.scrollWidth)).toBe(360)
})

/**
 * An outage lasts several tokens, so that there is something to miss. The model stops after `upTo` of its 127 tokens
 * until the test lets it go on: a browser can take seconds for a command, and the answer would end before it.
 */
async function serve({ everyMs = 20, upTo = 60, retryMs = 300 } = {}) {
  const pace = { everyMs, upTo, written: 0 }
  const example = await start({
    retryMs,
    async pace(signal) {
      do await sleep(pace.everyMs, undefined, { signal })
      while (pace.written >= pace.upTo)
      pace.written++
    },
  })
  onTestFinished(async () => {
    await example.close()
    example.server.closeAllConnections()
  })
  return { ...example, pace }
}

/** Chooses a question, or the process that serves the tab. */
function choose(page: Page, value: string): Promise<void> {
  return page.eval(wanted => {
    const select = document.querySelector<HTMLSelectElement>('#question')
    const radio = document.querySelector<HTMLInputElement>(`[name="process"][value="${wanted}"]`)
    if (radio) radio.click()
    else if (select) select.value = wanted
  }, value)
}

function hasTokens(page: Page, count: number): Promise<void> {
  return waitFor(
    page,
    wanted => Number(document.querySelector('#received')?.textContent) >= wanted,
    count,
  )
}

function hasNote(page: Page, name: string): Promise<void> {
  return waitFor(page, wanted => document.querySelector(`#log [data-note="${wanted}"]`), name)
}

/** The text of the newest answer. */
function answerOf(page: Page): Promise<string> {
  return page.eval(() => {
    const [...answers] = document.querySelectorAll('#messages [data-role="assistant"]')
    const answer = answers.at(-1)?.cloneNode(true) as HTMLElement
    answer.querySelector('small')?.remove()
    return answer.textContent ?? ''
  })
}

function answerIs(page: Page, text: string): Promise<void> {
  return waitFor(
    page,
    wanted => {
      const [...answers] = document.querySelectorAll('#messages [data-role="assistant"]')
      return answers.at(-1)?.textContent === wanted
    },
    text,
  )
}

/** The page shows that no answer is being written, which it learns when the answer has been stored. */
function isStored(page: Page): Promise<void> {
  return waitFor(page, () => document.querySelector('#list [aria-current] em')?.textContent === '')
}

function replayed(page: Page): Promise<string> {
  return page.eval(() => {
    const [...spans] = document.querySelectorAll('#messages [data-how="replayed"]')
    return spans.map(({ textContent }) => textContent).join('')
  })
}

/** Loads the page again. By way of another one, which the old page cannot be mistaken for. */
async function reload(page: Page): Promise<void> {
  const url = await page.eval(() => location.href)
  await page.goto('about:blank')
  await page.goto(url)
}
