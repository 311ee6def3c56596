/** WebKitGTK through W3C WebDriver (https://www.w3.org/TR/webdriver2/), which is JSON over HTTP. */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { inject } from 'vitest'
import { freePort } from '../helpers/net.js'
import { requireProgram } from '../setup/needs.js'
import { type Browser, KEYS, type LaunchOptions, type Page } from './engine.js'
import { end, endWithUs } from './process.js'

/** As long as the limit of a test. */
const SCRIPT_MS = 90_000

interface Answer {
  value?: unknown
  error?: string
}

export async function launchWebKit({
  viewport,
  colorScheme,
  shots,
}: LaunchOptions): Promise<Browser> {
  const port = await freePort()
  const program = requireProgram('WebKitWebDriver')
  const driver = spawn(program, [`--port=${port}`, '--host=127.0.0.1'], {
    detached: true,
    stdio: 'ignore',
    env: {
      ...process.env,
      DISPLAY: inject('display'),
      GTK_THEME: colorScheme === 'dark' ? 'Adwaita:dark' : 'Adwaita',
      // The language of pages. Only `C` is there on every system; pages then speak English.
      LC_ALL: 'C',
      LANGUAGE: 'C',
      // Without a GPU, painting takes a quarter of the time; but without it, no screenshot completes.
      ...(!shots && { WEBKIT_DISABLE_DMABUF_RENDERER: '1' }),
    },
  })
  const callOff = endWithUs(driver)
  const origin = `http://127.0.0.1:${port}`
  await listening(origin)
  const { sessionId } = await call<{ sessionId: string }>('POST', `${origin}/session`, {
    capabilities: { alwaysMatch: { acceptInsecureCerts: true } },
  })
  const session = `${origin}/session/${sessionId}`
  await call('POST', `${session}/timeouts`, { script: SCRIPT_MS })

  // Stays open, because a new window can only be opened from a current one.
  const first = await call<string>('GET', `${session}/window`)

  // A session has only one current window, so commands to different pages must not interleave.
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = <Result>(run: () => Promise<Result>): Promise<Result> => {
    const mine = last.then(run)
    last = mine.catch(() => {})
    return mine
  }

  async function open(): Promise<Page> {
    // Not a tab: a tab in the background is hidden, and a screenshot of it never completes.
    const { handle } = await inTurn(async () => {
      await call('POST', `${session}/window`, { handle: first })
      return call<{ handle: string }>('POST', `${session}/window/new`, { type: 'window' })
    })
    const send = <Result>(method: string, path: string, body?: object) =>
      inTurn(async () => {
        await call('POST', `${session}/window`, { handle })
        return call<Result>(method, `${session}/${path}`, body)
      })
    const page: Page = {
      goto: url => send('POST', 'url', { url }),
      async eval(run, ...args) {
        const script = callBack(String(run))
        const answer = await send<Answer>('POST', 'execute/async', { script, args })
        if (answer.error !== undefined) throw new Error(answer.error)
        return answer.value as never
      },
      key: async key => {
        const actions = ['keyDown', 'keyUp'].map(type => ({ type, value: KEYS[key] }))
        await send('POST', 'actions', { actions: [{ type: 'key', id: 'keyboard', actions }] })
      },
      shot: async () => Buffer.from(await send<string>('GET', 'screenshot'), 'base64'),
      close: () => send('DELETE', 'window'),
    }
    await setViewport(page, viewport, send)
    return page
  }

  return {
    engine: 'webkit',
    open,
    async close() {
      await call('DELETE', session)
      await end(driver)
      callOff()
    },
  }
}

/** Sets the window to the size of the page plus the bars of the browser. */
async function setViewport(
  page: Page,
  { width, height }: LaunchOptions['viewport'],
  send: <Result>(method: string, path: string, body?: object) => Promise<Result>,
): Promise<void> {
  const window = await send<{ width: number; height: number }>('GET', 'window/rect')
  const inner = await page.eval(() => ({ width: innerWidth, height: innerHeight }))
  await send('POST', 'window/rect', {
    width: width + window.width - inner.width,
    height: height + window.height - inner.height,
  })
  // The page learns of its new size later than WebDriver does.
  await page.eval(
    (width, height) =>
      new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => {
          const got = `${innerWidth}x${innerHeight}`
          reject(new Error(`got a page of ${got}, not ${width}x${height}; it cannot be so narrow`))
        }, 30_000)
        const check = () => {
          if (innerWidth !== width || innerHeight !== height) return
          clearTimeout(timer)
          removeEventListener('resize', check)
          resolve()
        }
        addEventListener('resize', check)
        check()
      }),
    width,
    height,
  )
}

/** A script that calls the function with its arguments and passes the result to WebDriver's callback. */
function callBack(run: string): string {
  return `const args = [...arguments], done = args.pop()
    Promise.resolve().then(() => (${run})(...args))
      .then(value => done({ value }), error => done({ error: String(error) }))`
}

/** Sends one WebDriver command. */
async function call<Result>(method: string, url: string, body: object = {}): Promise<Result> {
  const response = await fetch(url, {
    method,
    ...(method === 'POST' && { body: JSON.stringify(body) }),
  })
  const { value } = (await response.json()) as {
    value: Result & { error?: string; message?: string }
  }
  if (!response.ok) throw new Error(`${method} ${url}: ${value.error}: ${value.message}`)
  return value
}

/** Polls the driver, because it does not report when it is ready. */
async function listening(origin: string, until = Date.now() + 60_000): Promise<void> {
  try {
    await call('GET', `${origin}/status`)
  } catch (error) {
    if (Date.now() > until) throw new Error('WebKitWebDriver does not answer', { cause: error })
    await sleep(20)
    await listening(origin, until)
  }
}
