import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { start } from '../../example/message-list/server.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { fireTransition, photograph, press, stateIs, textOf, wantsShots } from './page.js'

/** Longer than any test: the tests decide themselves when there is a message. */
const NEVER = 2 ** 31 - 1

describe.each(ENGINES)('example/message-list in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  let example: Awaited<ReturnType<typeof start>>

  beforeEach(async () => {
    example = await startExample({ everyMs: NEVER })
  })

  test('shows messages and named events from another origin that knows the session', async () => {
    const page = await openPage()
    await connect(page)
    const user = await textOf(page, '#user')
    expect(example.pool.has(user)).toBe(true)
    expect(await textOf(page, '#events-origin')).toBe(`http://127.0.0.1:${example.events.port}`)

    say('one', 'two', 'three')
    await hasMessage(page, 3)
    await hasEvent(page, 'update')
    expect(await messages(page)).toEqual(['1 one live', '2 two live', '3 three live'])
    expect(await textOf(page, '#total')).toBe('3')
  })

  test('shows the last event id and resumes from it when the user reconnects', async () => {
    const page = await openPage()
    await connect(page)
    say('one')
    await hasMessage(page, 1)
    const [id] = await page.eval(() =>
      [...document.querySelectorAll<HTMLElement>('#log li[data-id]')].map(item => item.dataset.id),
    )
    expect(await textOf(page, '#last-id')).toBe(id)

    const left = new Promise(resolve => example.pool.once('close', resolve))
    await press(page, '#disconnect')
    await left
    say('two', 'three')
    await connect(page)
    say('four')
    await hasMessage(page, 4)
    expect(await messages(page)).toEqual([
      '1 one live',
      '2 two replayed',
      '3 three replayed',
      '4 four live',
    ])
    expect(example.pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
  })

  test('loses and duplicates nothing when the network cuts the connection', async () => {
    const page = await openPage()
    await connect(page)
    say('one', 'two')
    await hasMessage(page, 2)
    example.events.server.closeAllConnections()
    await stateIs(page, 'connecting')
    say('three', 'four')
    await hasMessage(page, 4)
    expect(await messages(page)).toEqual([
      '1 one live',
      '2 two live',
      '3 three replayed',
      '4 four replayed',
    ])
  })

  test('gets a gap when the log goes back no further, and fetches what it missed', async () => {
    const page = await openPage()
    await connect(page)
    say('one')
    await hasMessage(page, 1)
    await press(page, '#disconnect')
    for (let n = 2; n <= 30; n++) say(`message ${n}`)
    await connect(page)
    await hasEvent(page, 'sse.gap')
    await hasMessage(page, 30)
    const arrived = await messages(page)
    expect(arrived).toHaveLength(30)
    expect(arrived.slice(0, 2)).toEqual(['1 one live', '2 message 2 fetched'])
    expect(arrived.map(Number.parseFloat)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1))
    expect(example.pool.stats()).toMatchObject({ gaps: 1 })
  })

  test('stays away when the server ends the stream, until the user reconnects', async () => {
    const page = await openPage()
    await connect(page)
    await press(page, '#end')
    await hasEvent(page, 'end')
    await stateIs(page, 'closed')
    expect(example.pool.size).toBe(0)

    await connect(page)
    say('one')
    await hasMessage(page, 1)
  })

  test('says how long to stay away for a gap, and shows a heartbeat only while connected (fault 110)', async () => {
    example = await startExample({ everyMs: 500, kept: 6, pingMs: 100 })
    const page = await openPage()
    await waitFor(
      page,
      () => document.querySelector('[data-value="logSeconds"]')?.textContent === '3',
    )
    const isBeating = () => !document.querySelector<HTMLElement>('#heartbeat')?.hidden
    expect(await page.eval(isBeating)).toBe(false)
    await connect(page)
    await waitFor(page, isBeating)
    await press(page, '#disconnect')
    await stateIs(page, 'closed')
    expect(await page.eval(isBeating)).toBe(false)
    await press(page, '#connect')
    await waitFor(page, isBeating)
  })

  test('clears the list and keeps the connection', async () => {
    const page = await openPage()
    await connect(page)
    say('one')
    await hasMessage(page, 1)
    await press(page, '#clear')
    await waitFor(page, () => document.querySelector('#log')?.children.length === 0)
    say('two')
    await hasMessage(page, 2)
    expect(await messages(page)).toEqual(['2 two live'])
    expect(example.pool.stats()).toMatchObject({ opened: 1, streams: 1 })
  })

  test('admits no other origin and nobody without a session', async () => {
    const url = `http://127.0.0.1:${example.events.port}/events`
    const page = await openPage()
    const origin = originOf(example)
    const Cookie = await cookieOf(origin)
    const strange = await fetch(url, { headers: { Cookie, Origin: 'http://evil.example' } })
    expect(strange.status).toBe(403)
    const nobody = await fetch(url, { headers: { Origin: origin } })
    expect(nobody.status).toBe(401)

    // A browser behaves the same: this is the page of another example, with this one's cookie.
    const other = await startExample({ everyMs: NEVER })
    await page.goto(originOf(other))
    const readyState = await page.eval(
      target =>
        new Promise(resolve => {
          const source = new EventSource(target, { withCredentials: true })
          source.onerror = () => resolve(source.readyState)
        }),
      url,
    )
    expect(readyState).toBe(2)
    expect(example.pool.stats()).toMatchObject({ opened: 0, refused: { origin: 2 } })
  })

  test('closes the stream when the page is left', async () => {
    const page = await openPage()
    await connect(page)
    const left = new Promise(resolve => example.pool.once('close', resolve))
    await page.goto('about:blank')
    await left
    expect(example.pool.size).toBe(0)
  })

  test('closes the stream when the page enters the back/forward cache and resumes when it returns', async () => {
    const page = await openPage()
    await connect(page)
    say('one')
    await hasMessage(page, 1)
    const left = new Promise(resolve => example.pool.once('close', resolve))
    await fireTransition(page, 'pagehide')
    await left
    say('two')
    await fireTransition(page, 'pageshow')
    await hasMessage(page, 2)
    expect(await messages(page)).toEqual(['1 one live', '2 two replayed'])
  })

  if (wantsShots) {
    test('is photographed', async () => {
      await photograph('message-list', async page => {
        const { port, say: speak } = await startExample({ everyMs: NEVER })
        const texts = ['The ferry leaves at nine.', 'Rain from the west by noon.']
        const sayTwo = () => texts.forEach(text => void speak(text))
        await page.goto(`http://127.0.0.1:${port}`)
        // Without a timer for messages the page would name a time of months.
        await waitFor(page, () => document.querySelector('#connect:enabled'))
        await page.eval(() => {
          const node = document.querySelector('[data-value="logSeconds"]')
          if (node) node.textContent = '10'
        })
        await connect(page)
        sayTwo()
        await hasMessage(page, 2)
        await press(page, '#disconnect')
        for (let i = 0; i < 6; i++) sayTwo()
        await connect(page)
        sayTwo()
        await hasMessage(page, 16)
        await press(page, '#disconnect')
        sayTwo()
        await connect(page)
        sayTwo()
        await hasMessage(page, 20)
      })
    })
  }

  async function startExample(options: Parameters<typeof start>[0]) {
    const started = await start({ retryMs: 300, ...options })
    onTestFinished(async () => {
      await started.close()
      started.events.server.closeAllConnections()
    })
    return started
  }

  /**
   * A page that shows a second example right after a first would confuse both: they share its cookies,
   * because cookies ignore ports.
   */
  async function openPage(): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(originOf(example))
    return page
  }

  function say(...texts: string[]): void {
    for (const text of texts) example.say(text)
  }
})

function originOf({ port }: { port: number }): string {
  return `http://127.0.0.1:${port}`
}

async function cookieOf(origin: string): Promise<string> {
  const response = await fetch(origin)
  return response.headers
    .getSetCookie()
    .map(line => line.split(';')[0])
    .join('; ')
}

/** Connects and waits until the missed events have arrived. */
async function connect(page: Page): Promise<void> {
  const hellos = () => document.querySelectorAll('#log li[data-event="hi"]').length
  const before = await page.eval(hellos)
  await press(page, '#connect')
  await hasEvent(page, 'hi', before + 1)
}

function hasMessage(page: Page, n: number): Promise<void> {
  return waitFor(page, wanted => document.querySelector(`#log li[data-n="${wanted}"]`), n)
}

function hasEvent(page: Page, name: string, times = 1): Promise<void> {
  return waitFor(
    page,
    (wanted, count) =>
      document.querySelectorAll(`#log li[data-event="${wanted}"]`).length >= Number(count),
    name,
    times,
  )
}

/** The messages in the list, oldest first: number, text, and how each arrived. */
function messages(page: Page): Promise<string[]> {
  return page.eval(() =>
    [...document.querySelectorAll<HTMLElement>('#log li[data-event="message"]')]
      .reverse()
      .map(({ dataset, children }) => `${dataset.n} ${children[1]?.textContent} ${dataset.how}`),
  )
}
