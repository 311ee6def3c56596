/** What survives the server: it is killed and started again on the same port, and the open pages go on. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { buildIfStale } from '../../scripts/example-build.js'
import { freePort } from '../helpers/net.js'
import { nodePath } from '../setup/needs.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { press, stateIs, textsAre } from './page.js'

/** One that has SQLite itself. */
const NODE = nodePath(24)

/** The servers import the built package, as they do for a user. */
beforeAll(buildIfStale)

describe.each(ENGINES)('an example whose server is killed and started again, in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test('progress: the job goes on after its last step, and the page gets each step once', async () => {
    const server = await Server.start('progress', { stepMs: 100, retryMs: 300, leaseMs: 1000 })
    const page = await openPage(browser, `${server.origin}/?id=ada`)
    await press(page, '#start')
    await appears(page, '[data-event="update"]:nth-last-child(5)')
    await server.kill()
    await appears(page, '[data-note="lost"]')
    await server.restart()
    await appears(page, '.job[data-state="done"]')
    const steps = Array.from({ length: 20 }, (_, step) => (step + 1) * 5)
    expect(await received(page)).toEqual(steps)
    expect(await page.eval(() => document.querySelectorAll('.job').length)).toBe(1)

    // The same for a page that opens only then.
    const late = await openPage(browser, `${server.origin}/?id=ada`)
    await appears(late, '.job[data-state="done"]')
    expect(await received(late)).toEqual(steps)
  })

  test('chat: the history is there, and the page gets what was said meanwhile, each message once', async () => {
    const server = await Server.start('chat', { graceMs: 0 })
    const url = `${server.origin}/?${new URLSearchParams({ me: 'ada', name: 'Ada', room: 'general' })}`
    const page = await openPage(browser, url)
    await stateIs(page, 'open')
    for (const text of ['one', 'two']) await server.say(text)
    await textsAre(page, '#messages .text', ['one', 'two'])
    await server.kill()
    await stateIs(page, 'connecting')
    await server.restart()
    await server.say('three')
    await textsAre(page, '#messages .text', ['one', 'two', 'three'])
    await stateIs(page, 'open')
    await server.say('four')
    await textsAre(page, '#messages .text', ['one', 'two', 'three', 'four'])
    // A note would say that some are missing.
    expect(await page.eval(() => document.querySelectorAll('#messages .note').length)).toBe(0)

    const late = await openPage(browser, url.replace('me=ada', 'me=bob'))
    await textsAre(late, '#messages .text', ['one', 'two', 'three', 'four'])
  })
})

test('message-list: the page keeps its session and gets the messages that follow, none skipped or repeated', async () => {
  const browser = await launch('chromium')
  onTestFinished(() => browser.close())
  const server = await Server.start('message-list', { everyMs: 100, retryMs: 200, kept: 1000 })
  const page = await openPage(browser, server.origin)
  await press(page, '#connect')
  await appears(page, '[data-n]')
  const user = await page.eval(() => document.querySelector('#user')?.textContent)
  await server.kill()
  await appears(page, '[data-note="lost"]')
  await server.restart()
  await waitFor(page, () => document.querySelectorAll('[data-event="hi"]').length === 2)
  const [newest = 0] = await numbers(page)
  await appears(page, `[data-n="${newest + 5}"]`)
  const seen = (await numbers(page)).reverse()
  expect(seen).toEqual(seen.map((_, index) => (seen[0] as number) + index))
  await page.goto(server.origin)
  await waitFor(page, name => document.querySelector('#user')?.textContent === name, user)
})

test('tokens: what was written is kept, the answer ends as lost, and the next one can be asked for', async () => {
  const browser = await launch('chromium')
  onTestFinished(() => browser.close())
  const server = await Server.start('tokens', { retryMs: 200 })
  const page = await openPage(browser, server.origin)
  await press(page, '#ask')
  await waitFor(page, () => Number(document.querySelector('#received')?.textContent) >= 10)
  await server.kill()
  await appears(page, '[data-note="cut"]')
  const written = await textOfAnswer(page)
  await server.restart()
  await appears(page, '[data-note="lost"]')
  expect((await textOfAnswer(page)).startsWith(written)).toBe(true)
  await waitFor(page, () => document.querySelector('#list [aria-current] em')?.textContent === '')
  await press(page, '#ask')
  await stateIs(page, 'open')
})

class Server {
  readonly #name: string
  readonly #options: object
  readonly port: number
  #process: ChildProcess | undefined
  #said = 0

  private constructor(name: string, options: object, port: number) {
    this.#name = name
    this.#options = options
    this.port = port
  }

  static async start(name: string, options: object): Promise<Server> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-restart-'))
    const file = join(folder, 'data', 'events.db')
    const server = new Server(name, { file, ...options }, await freePort())
    onTestFinished(async () => {
      await server.kill()
      await rm(folder, { recursive: true })
    })
    await server.restart()
    return server
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** Resolves when it listens. */
  async restart(): Promise<void> {
    const module = new URL(`../../example/${this.#name}/server.js`, import.meta.url).href
    const options = JSON.stringify({ ...this.#options, port: this.port })
    const code = `const { start } = await import('${module}')
      await start(${options})
      console.log('listening')`
    const args = ['--no-warnings', '--input-type=module', '--eval', code]
    this.#process = spawn(NODE, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface({ input: this.#process.stdout as Readable })
    const ended = once(lines, 'close').then(() => {
      throw new Error(`The server of ${this.#name} ended before it listened; see above`)
    })
    await Promise.race([once(lines, 'line'), ended])
    ended.catch(() => {})
  }

  async kill(): Promise<void> {
    const ended = this.#process
    this.#process = undefined
    if (ended === undefined) return
    const exit = once(ended, 'exit')
    ended.kill('SIGKILL')
    await exit
  }

  /** Of the chat: a message of somebody else. */
  async say(text: string): Promise<void> {
    const id = `m${++this.#said}`
    const body = new URLSearchParams({ me: 'grace', name: 'Grace', room: 'general', id, text })
    const response = await fetch(`${this.origin}/messages`, { method: 'POST', body })
    expect(response.status).toBe(202)
  }
}

async function openPage(browser: Browser, url: string): Promise<Page> {
  const page = await browser.open()
  onTestFinished(() => page.close())
  await page.goto(url)
  return page
}

function appears(page: Page, selector: string): Promise<void> {
  return waitFor(page, wanted => document.querySelector(wanted), selector)
}

/** The steps that the page has logged, in their order; two streams may be back in either order. */
async function received(page: Page): Promise<number[]> {
  const counts = await page.eval(() =>
    Array.from(
      document.querySelectorAll('#log [data-event="update"] .data'),
      data => JSON.parse(data.textContent ?? '').count as number,
    ),
  )
  return counts.sort((a, b) => a - b)
}

/** Of the messages, newest first. */
function numbers(page: Page): Promise<number[]> {
  return page.eval(() =>
    Array.from(document.querySelectorAll<HTMLElement>('#log [data-n]'), item =>
      Number(item.dataset.n),
    ),
  )
}

function textOfAnswer(page: Page): Promise<string> {
  return page.eval(() => {
    const answer = document.querySelector('#messages [data-role="assistant"]')?.cloneNode(true)
    ;(answer as HTMLElement).querySelector('small')?.remove()
    return answer?.textContent ?? ''
  })
}
