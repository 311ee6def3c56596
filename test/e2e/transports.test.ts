import { once } from 'node:events'
import net from 'node:net'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { start } from '../../example/transports/server.js'
import { type Browser, ENGINES, launch, type Page, waitFor } from './browser.js'
import { photograph, press, stateIs, textOf, wantsShots } from './page.js'

/** Longer than any test: the tests decide themselves when there is a reading. */
const NEVER = 2 ** 31 - 1

const ALL = ['polling', 'longPolling', 'webSocket', 'sse', 'client'] as const
/** The transports that resume. */
const RESUMING = ['longPolling', 'webSocket', 'sse', 'client'] as const

describe.each(ENGINES)('example/transports in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test('receives the feed in five ways and shows what each costs', async () => {
    const { origin, tell } = await startExample()
    const page = await openPage(origin)
    await tell(3)
    await haveArrived(page, ALL, 4)
    for (const name of ALL) expect(await textOf(page, fact(name, 'missed'))).toBe('0')
    for (const name of RESUMING) {
      expect(await textOf(page, fact(name, 'received'))).toBe('3')
      expect(await textOf(page, fact(name, 'doubled'))).toBe('0')
    }
    await waitFor(page, () =>
      [...document.querySelectorAll('[data-fact="bytes"]')].every(
        ({ textContent }) => Number.parseFloat(textContent ?? '') > 0,
      ),
    )
    expect(await textOf(page, fact('sse', 'requests'))).toBe('1')
    expect(await textOf(page, fact('client', 'requests'))).toBe('1')
    expect(await textOf(page, fact('webSocket', 'requests'))).toBe('1')
    expect(Number(await textOf(page, fact('webSocket', 'lines')))).toBeGreaterThan(
      Number(await textOf(page, fact('sse', 'lines'))),
    )
    await waitFor(page, () => document.querySelector('#sse path.live')?.getAttribute('d'))
  })

  test('misses and duplicates nothing after a cut, except by polling', async () => {
    const { origin, tell, cut } = await startExample({ latest: 5 })
    const page = await openPage(origin)
    await tell(3)
    await haveArrived(page, ALL, 4)

    cut()
    await tell(40)
    await haveArrived(page, ALL, 44)
    await areWhole(page, 43)
    await waitFor(
      page,
      s => document.querySelector(s)?.textContent === '2',
      fact('sse', 'requests'),
    )
    expect(await textOf(page, fact('webSocket', 'requests'))).toBe('2')
    expect(await textOf(page, fact('polling', 'missed'))).toBe('35')
  })

  test('misses nothing if it is cut off before the first reading', async () => {
    const { origin, tell, cut } = await startExample()
    const page = await openPage(origin)
    cut()
    await tell(5)
    await haveArrived(page, RESUMING, 6)
    await areWhole(page, 5)
  })

  test('gets everything after the server was out of reach for a while', async () => {
    const { origin, tell } = await startExample({ offlineMs: 400 })
    const page = await openPage(origin)
    await press(page, '#offline')
    await stateIs(page, 'connecting')
    await tell(20)
    await haveArrived(page, ALL, 21)
    await areWhole(page, 20)
    await stateIs(page, 'open')
    await waitFor(page, () => document.querySelector('#sse path.outages')?.getAttribute('d'))
  })

  test('shows what a burst does: polling misses what does not fit into a poll', async () => {
    const { origin } = await startExample({ latest: 10, burst: 30 })
    const page = await openPage(origin)
    await haveArrived(page, ['polling'], 1)
    await press(page, '#burst')
    await haveArrived(page, ALL, 31)
    await areWhole(page, 30)
    expect(await textOf(page, fact('polling', 'missed'))).toBe('20')
  })

  test('asks again by long polling only after an answer', async () => {
    const { origin, server, tell } = await startExample()
    let asked = 0
    let open = 0
    const overlapping: number[] = []
    server.prependListener('request', (req, res) => {
      if (req.headers.accept !== 'application/json') return
      asked += 1
      open += 1
      if (open > 1) overlapping.push(asked)
      res.once('finish', () => {
        open -= 1
      })
    })
    const page = await openPage(origin)
    for (let n = 2; n <= 6; n++) {
      await tell()
      await haveArrived(page, ['longPolling'], n)
    }
    await waitFor(
      page,
      s => document.querySelector(s)?.textContent === '7',
      fact('longPolling', 'requests'),
    )
    // The first request gets the cursor, five get one reading each, and the last one waits.
    expect({ asked, open, overlapping }).toEqual({ asked: 7, open: 1, overlapping: [] })
  })

  async function openPage(origin: string): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(origin)
    // Long polling has its cursor by then, because its first request is answered at once.
    await stateIs(page, 'open')
    return page
  }
})

describe('the server of example/transports', () => {
  test('counts the bytes of each transport exactly, on a socket that they share', async () => {
    const { port, costsOf } = await startExample()
    const socket = net.connect(port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    const ask = async (path: string, accept: string, end: string) => {
      const request = `GET ${path}?page=me HTTP/1.1\r\nHost: localhost\r\nAccept: ${accept}\r\n\r\n`
      socket.write(request)
      let answer = ''
      while (!answer.endsWith(end)) answer += (await once(socket, 'data'))[0]
      return request.length + answer.length
    }
    const polling = await ask('/latest', '*/*', ']')
    const longPolling = await ask('/events', 'application/json', '}')
    await ask('/figures', '*/*', '}')
    expect(costsOf('me')).toMatchObject({
      polling: { requests: 1, bytes: polling },
      longPolling: { requests: 1, bytes: longPolling },
      webSocket: { requests: 0, bytes: 0 },
    })
  })

  test('survives a path that is not a URL, in a request and in an upgrade', async () => {
    const { port } = await startExample()
    for (const more of ['', 'Connection: Upgrade\r\nUpgrade: websocket\r\n']) {
      const socket = net.connect(port, '127.0.0.1').resume()
      socket.write(`GET // HTTP/1.1\r\nHost: localhost\r\n${more || 'Connection: close\r\n'}\r\n`)
      await once(socket, 'close')
    }
    expect((await fetch(`http://127.0.0.1:${port}/latest`)).status).toBe(200)
  })

  test('buffers little for a WebSocket that does not read, and reports the gap to it', async () => {
    const { port, sockets, tell, pool } = await startExample()
    const ws = new WebSocket(`ws://127.0.0.1:${port}/socket`)
    onTestFinished(() => ws.terminate())
    await once(ws, 'message')
    ws.pause()
    const [held] = sockets.clients
    let most = 0
    for (let i = 0; i < 200; i++) {
      await tell(1000)
      await new Promise(setImmediate)
      most = Math.max(most, Number(held?.bufferedAmount))
    }
    // The socket was full, because the client had not read for so long.
    expect(most).toBeGreaterThan(64 * 1024)
    expect(most).toBeLessThan(80 * 1024)

    const seen: { event: string; data: string }[] = []
    const told = new Promise<void>(resolve => {
      ws.on('message', text => {
        const entry = JSON.parse(String(text))
        seen.push(entry)
        if (entry.event === 'sse.gap') resolve()
      })
    })
    ws.resume()
    await told
    expect(seen.at(-1)?.data).toBe('{"reason":"lagged"}')
    expect(pool.stats().gaps).toBe(1)
  })

  test('ends a WebSocket that answers no ping', async () => {
    const { port } = await startExample({ pingMs: 20 })
    const ws = new WebSocket(`ws://127.0.0.1:${port}/socket`, { autoPong: false })
    onTestFinished(() => ws.terminate())
    const [code] = await once(ws, 'close')
    expect(code).toBe(1006)
  })
})

if (wantsShots) {
  test('example/transports is photographed', { timeout: 180_000 }, async () => {
    await photograph('transports', async page => {
      const { origin } = await startExample({
        everyMs: 250,
        pollMs: 2000,
        retryMs: 1000,
        figuresMs: 500,
      })
      await page.goto(origin)
      await stateIs(page, 'open')
      await hasReceived(page, 24)
      await press(page, '#burst')
      await hasReceived(page, 100)
      await press(page, '#offline')
      await stateIs(page, 'connecting')
      await stateIs(page, 'open')
      await hasReceived(page, 140)
    })
  })
}

async function startExample(options: Parameters<typeof start>[0] = {}) {
  const example = await start({
    everyMs: NEVER,
    pollMs: 100,
    retryMs: 200,
    figuresMs: 100,
    ...options,
  })
  onTestFinished(async () => {
    await example.close()
    example.server.closeAllConnections()
  })
  return { ...example, origin: `http://127.0.0.1:${example.port}` }
}

function fact(transport: (typeof ALL)[number], name: string): string {
  return `#${transport} [data-fact="${name}"]`
}

/** Resolves when each of these transports shows the reading with this number. */
function haveArrived(page: Page, transports: readonly string[], n: number): Promise<void> {
  return waitFor(
    page,
    (names, wanted) =>
      String(names)
        .split(' ')
        .every(name => document.getElementById(name)?.dataset.newest === String(wanted)),
    transports.join(' '),
    n,
  )
}

async function areWhole(page: Page, received: number): Promise<void> {
  for (const name of RESUMING) {
    expect(await textOf(page, fact(name, 'received')), name).toBe(String(received))
    expect(await textOf(page, fact(name, 'missed')), name).toBe('0')
    expect(await textOf(page, fact(name, 'doubled')), name).toBe('0')
  }
}

function hasReceived(page: Page, readings: number): Promise<void> {
  return waitFor(
    page,
    (selector, wanted) =>
      Number(document.querySelector(String(selector))?.textContent) >= Number(wanted),
    fact('sse', 'received'),
    readings,
  )
}
