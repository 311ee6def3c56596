import { once } from 'node:events'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { start } from '../../example/chat/server.js'
import { RedisServer } from '../helpers/redis.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { photograph, press, setVisible, stateIs, textOf, textsAre, wantsShots } from './page.js'

type Example = Awaited<ReturnType<typeof start>>

describe.each(ENGINES)('example/chat in %s', engine => {
  let browser: Browser
  let example: Example

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())
  beforeEach(async () => {
    example = await serve()
  })

  const open = (query: Record<string, string>, port = example.port) =>
    openPage(browser, port, query)

  if (wantsShots && engine === 'chromium') {
    test('is photographed', { timeout: 120_000 }, async () => {
      await photograph('chat', async page => {
        const { port } = await serve()
        const other = await browser.open()
        onTestFinished(() => other.close())
        await other.goto(`http://127.0.0.1:${port}?me=grace&name=Grace&room=general`)
        await stateIs(other, 'open')
        await page.goto(`http://127.0.0.1:${port}?me=ada&name=Ada&room=general`)
        await textsAre(page, '#members li', ['Ada (you)', 'Grace'])
        await say(other, 'Morning! Is the deploy done?')
        await hasMessage(page, 'Morning! Is the deploy done?')
        await say(page, 'Ten minutes ago, and nobody noticed.')
        await hasMessage(page, 'Ten minutes ago, and nobody noticed.')
        await press(other, '[data-room="help"]')
        await textsAre(other, '#members li', ['Grace (you)'])
        await say(other, 'Who knows nginx?')
        await waitFor(page, () => document.querySelector('[data-room="help"] em')?.textContent)
        await press(other, '[data-room="general"]')
        await textsAre(page, '#members li', ['Ada (you)', 'Grace'])
        await type(other, 'I')
        await waitFor(page, () => document.querySelector('#typing')?.textContent)
      })
    })
  }

  test('shows who is online, with a client of two tabs as one member', async () => {
    const ada = await open({ me: 'ada', name: 'Ada' })
    await textsAre(ada, '#members li', ['Ada (you)'])
    const grace = await open({ me: 'grace', name: 'Grace' })
    const twin = await open({ me: 'grace', name: 'Grace' })
    for (const page of [grace, twin]) await textsAre(page, '#members li', ['Ada', 'Grace (you)'])
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
    const closed = once(example.pool, 'close')
    await twin.goto('about:blank')
    await closed
    // It would come after a leave.
    await say(ada, 'still here?')
    await hasMessage(ada, 'still here?')
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
    await grace.goto('about:blank')
    await textsAre(ada, '#members li', ['Ada (you)'])
  })

  test('shows neither a leave nor a join to the others when a page is reloaded or changes its name', async () => {
    example = await serve({ graceMs: 60_000 })
    const changes: string[] = []
    for (const type of ['join', 'update', 'leave'] as const) {
      example.presence.on(type, (_, { id }) => changes.push(`${type} ${id}`))
    }
    const ada = await open({ me: 'ada', name: 'Ada' })
    const grace = await open({ me: 'grace', name: 'Grace' })
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
    const url = await grace.eval(() => location.href)
    await grace.goto('about:blank')
    await grace.goto(url)
    await textsAre(grace, '#members li', ['Ada', 'Grace (you)'])
    await grace.eval(() => {
      const input = document.querySelector<HTMLInputElement>('#name')
      if (input) input.value = 'Grace H.'
      document.querySelector<HTMLFormElement>('#rename')?.requestSubmit()
    })
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace H.'])
    expect(changes).toEqual(['join ada', 'join grace', 'update grace'])
  })

  test('shows who is typing until the message arrives, and gives a page that opens later only the messages', async () => {
    const ada = await open({ me: 'ada', name: 'Ada' })
    const grace = await open({ me: 'grace', name: 'Grace' })
    for (const page of [ada, grace]) await setVisible(page, true)
    await say(ada, 'one')
    await hasMessage(ada, 'one')
    const shown = await listTexts(ada, '#typing')
    await type(grace, 'tw')
    await shown(['Grace is typing…'])
    const late = await open({ me: 'linus', name: 'Linus' })
    const shownLate = await listTexts(late, '#typing')
    // It follows all that was replayed.
    await textsAre(late, '#members li', ['Ada', 'Grace', 'Linus (you)'])
    await say(grace, '<b>two</b>')
    for (const page of [ada, grace, late])
      await textsAre(page, '#messages .text', ['one', '<b>two</b>'])
    await shown(['Grace is typing…', ''])
    await shownLate([])
    expect(await textOf(grace, '#typing')).toBe('')
    // On a visible page, what arrives is read, and so is what was there before the page.
    for (const page of [ada, grace, late]) expect(await unreadOf(page)).toEqual([])
  })

  test('counts and marks what arrives while the page is hidden, also over a reload', async () => {
    const ada = await open({ me: 'ada', name: 'Ada' })
    const grace = await open({ me: 'grace', name: 'Grace' })
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
    await setVisible(ada, false)
    await say(grace, 'one')
    await titleIs(ada, '(1) Chat · koa-sse-pool')
    expect(await unreadOf(ada)).toEqual(['one'])
    await setVisible(ada, true)
    expect(await ada.eval(() => document.title)).toBe('Chat · koa-sse-pool')
    expect(await unreadOf(ada)).toEqual(['one'])
    await setVisible(ada, false)
    expect(await unreadOf(ada)).toEqual([])
    const url = await ada.eval(() => location.href)
    await ada.goto('about:blank')
    await say(grace, 'two')
    await hasMessage(grace, 'two')
    await ada.goto(url)
    await textsAre(ada, '#messages .text', ['one', 'two'])
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
    expect(await unreadOf(ada)).toEqual(['two'])
  })

  test('has several rooms: a member is in one, and the others count what is unread', async () => {
    const ada = await open({ me: 'ada', name: 'Ada' })
    const grace = await open({ me: 'grace', name: 'Grace' })
    await setVisible(ada, true)
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
    await press(grace, '[data-room="help"]')
    // At once, and not after the grace period.
    await textsAre(ada, '#members li', ['Ada (you)'])
    await textsAre(grace, '#members li', ['Grace (you)'])
    await say(grace, 'anyone?')
    await hasMessage(grace, 'anyone?')
    await waitFor(
      ada,
      () => document.querySelector('[data-room="help"] em')?.textContent === '1 unread',
    )
    await titleIs(ada, '(1) Chat · koa-sse-pool')
    await press(ada, '[data-room="help"]')
    await textsAre(ada, '#messages .text', ['anyone?'])
    await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
    expect(await unreadOf(ada)).toEqual(['anyone?'])
    expect(await textOf(ada, '[data-room="help"] em')).toBe('')
    // The mark is for those who have just come in.
    await press(ada, '[data-room="general"]')
    await press(ada, '[data-room="help"]')
    await textsAre(ada, '#messages .text', ['anyone?'])
    expect(await unreadOf(ada)).toEqual([])
  })

  test('speaks Chinese', async () => {
    const page = await open({ me: 'ada', name: '小明', lang: 'zh-CN' })
    await textsAre(page, '#members li', ['小明（你）'])
    expect(await textOf(page, 'h1')).toBe('谁在线？')
    expect(await textOf(page, '#state')).toBe('已连接')
    expect(await page.eval(() => document.title)).toBe('聊天 · koa-sse-pool')
    expect(await page.eval(() => document.documentElement.lang)).toBe('zh-CN')
    await say(page, '你好')
    await hasMessage(page, '你好')
  })
})

test('with the log in Redis, the pages of two processes see each other, also when one of them closes', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  vi.stubEnv('REDIS_URL', redis.url)
  onTestFinished(() => void vi.unstubAllEnvs())
  const browser = await launch('chromium')
  onTestFinished(() => browser.close())
  const options = { leaseMs: 1000, graceMs: 300 }
  const [first, second] = [await serve(options), await serve(options)] as const
  const ada = await openPage(browser, first.port, { me: 'ada', name: 'Ada' })
  const grace = await openPage(browser, second.port, { me: 'grace', name: 'Grace' })
  await textsAre(ada, '#members li', ['Ada (you)', 'Grace'])
  await textsAre(grace, '#members li', ['Ada', 'Grace (you)'])
  await say(ada, 'hello')
  await textsAre(grace, '#messages .text', ['hello'])
  const linus = await openPage(browser, second.port, { me: 'linus', name: 'Linus' })
  await textsAre(linus, '#messages .text', ['hello'])
  await first.close()
  await textsAre(grace, '#members li', ['Grace (you)', 'Linus'])
})

test('the chat fits a phone of 360 pixels', async () => {
  const browser = await launch('chromium', { viewport: { width: 360, height: 740 } })
  onTestFinished(() => browser.close())
  const { port } = await serve()
  const name = 'A name that is thirty letters!'
  for (const lang of ['en', 'zh']) {
    const page = await openPage(browser, port, { me: lang, name, lang })
    await say(page, lang.repeat(250))
    await hasMessage(page, lang.repeat(250))
    expect(await page.eval(() => document.documentElement.scrollWidth)).toBe(360)
  }
})

test('the chat refuses what is no message, no room and no name', async () => {
  const { port } = await serve()
  const send = async (body: Record<string, string>) => {
    const url = `http://127.0.0.1:${port}/messages`
    const valid = { me: 'ada', name: 'Ada', room: 'general', id: 'x', text: 'hello' }
    const response = await fetch(url, {
      method: 'POST',
      body: new URLSearchParams({ ...valid, ...body }),
    })
    return response.status
  }
  expect(await send({})).toBe(202)
  const query = (values: Record<string, string>) =>
    new URLSearchParams({ me: 'ada', name: 'Ada', room: 'general', ...values })
  for (const wrong of [{ me: '' }, { name: ' ' }, { room: 'attic' }]) {
    expect((await fetch(`http://127.0.0.1:${port}/events?${query(wrong)}`)).status).toBe(400)
  }
  for (const wrong of [{ me: '<' }, { name: ' ' }, { room: 'attic' }, { text: ' ' }, { id: '' }]) {
    expect(await send(wrong)).toBe(400)
  }
})

/** Members leave at once, so that a test needs to wait for no time. */
async function serve(options: Parameters<typeof start>[0] = { graceMs: 0 }): Promise<Example> {
  const example = await start(options)
  onTestFinished(async () => {
    const closed = example.close()
    // Firefox connects in advance. Node waits for such a connection, which has had no request, until the time is over.
    example.server.closeAllConnections()
    await closed
  })
  return example
}

async function openPage(browser: Browser, port: number, query: Record<string, string>) {
  const page = await browser.open()
  onTestFinished(() => page.close())
  await page.goto(`http://127.0.0.1:${port}/?${new URLSearchParams(query)}`)
  await stateIs(page, 'open')
  return page
}

function say(page: Page, text: string): Promise<void> {
  return page.eval(said => {
    const input = document.querySelector<HTMLInputElement>('#text')
    if (input) input.value = said
    document.querySelector<HTMLFormElement>('#form')?.requestSubmit()
  }, text)
}

function type(page: Page, text: string): Promise<void> {
  return page.eval(typed => {
    const input = document.querySelector<HTMLInputElement>('#text')
    if (input) input.value = typed
    input?.dispatchEvent(new Event('input'))
  }, text)
}

/**
 * Lists what an element shows from now on, as it may show something else before the test looks. The function that it
 * resolves to waits until the list is the one that is expected.
 */
async function listTexts(page: Page, selector: string) {
  await page.eval(selector => {
    const element = document.querySelector(selector) as HTMLElement
    const texts: string[] = []
    const list = () => {
      const text = element.textContent ?? ''
      if (text !== (texts.at(-1) ?? '')) texts.push(text)
      element.dataset.shown = JSON.stringify(texts)
    }
    new MutationObserver(list).observe(element, { childList: true })
    list()
  }, selector)
  return (texts: string[]) =>
    waitFor(
      page,
      (selector, texts) => {
        const element = document.querySelector(selector) as HTMLElement
        return element.dataset.shown === JSON.stringify(texts)
      },
      selector,
      texts,
    )
}

function titleIs(page: Page, title: string): Promise<void> {
  return waitFor(page, wanted => document.title === wanted, title)
}

function unreadOf(page: Page): Promise<(string | null | undefined)[]> {
  return page.eval(() =>
    Array.from(
      document.querySelectorAll('[data-unread]'),
      item => item.querySelector('.text')?.textContent,
    ),
  )
}

function hasMessage(page: Page, text: string): Promise<void> {
  return waitFor(
    page,
    wanted => {
      const texts = Array.from(document.querySelectorAll('#messages .text'), p => p.textContent)
      return texts.includes(wanted)
    },
    text,
  )
}
