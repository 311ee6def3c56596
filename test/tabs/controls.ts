/** What each client of the control table is put through. Each scenario says in a word or two what came of it. */
import { once } from 'node:events'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Browser, Page } from '../e2e/browser.js'
import type { clients } from './clients.js'
import { serveTabs, type TabSiteOptions } from './site.js'
import { numbers, openPage, send } from './tab.js'
import { silentWay } from './ways.js'

declare global {
  interface Window {
    clients: typeof clients
  }
}

/** How long a client may take for something before it counts as never. */
const PATIENCE_MS = 15_000
const PING_MS = 200
const NO_SHARING = 'no sharing'

interface Control {
  readonly browser: Browser
  readonly script: string
  readonly client: string
}

type Scenario = (control: Control) => Promise<string>

export const scenarios: Record<string, Scenario> = {
  async 'resumes after a cut, without loss'(control) {
    const { site, page } = await connected(control)
    await send(site, 1, 5)
    await sees(page, 5)
    site.cut()
    await send(site, 6, 10)
    return yes((await sees(page, 10)) && (await hasExactly(page, 10)))
  },

  async 'notices a silent server'(control) {
    const site = await serve(control)
    const way = await silentWay(site.port)
    const page = await connect(control, way.origin)
    await site.until(({ pool }) => pool.connections > 0)
    await send(site, 1, 5)
    await sees(page, 5)
    // A client cannot know that heartbeats are missing before there was one.
    await sleep(PING_MS * 3)
    way.fallSilent()
    await send(site, 6, 10)
    return yes((await sees(page, 10)) && (await hasExactly(page, 10)))
  },

  async 'sends headers'(control) {
    const { site } = await connected(control, {}, true)
    return yes(site.requests[0]?.authorization === 'Bearer 1')
  },

  async 'gets a new token after a 401'(control) {
    let oldest = 1
    const { site, page } = await connected(
      control,
      {
        before(ctx, next) {
          if (Number(ctx.get('Authorization').slice('Bearer '.length)) >= oldest) return next()
          ctx.status = 401
          return undefined
        },
      },
      true,
    )
    await send(site, 1, 5)
    if (!(await sees(page, 5))) return 'no'
    // The next token is too old, too, and the one after it is not.
    oldest = 3
    site.cut()
    await send(site, 6, 10)
    return yes(await sees(page, 10))
  },

  async 'attempts in 15 s while the server is down'(control) {
    const { site, page } = await connected(control)
    const { port } = site
    await send(site, 1, 1)
    await sees(page, 1)
    await site.stop()
    let attempts = 0
    const server = net.createServer(socket => {
      socket.once('data', data => {
        if (String(data).startsWith('GET /events')) attempts += 1
        socket.destroy()
      })
      socket.on('error', () => {})
    })
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    await sleep(PATIENCE_MS)
    server.close()
    return String(attempts)
  },

  async 'keeps Retry-After'(control) {
    let refusedAt = 0
    let wait = 0
    let asked = 0
    const { site, page } = await connected(control, {
      before(ctx, next) {
        if (++asked === 1) return next()
        if (refusedAt > 0) {
          wait = performance.now() - refusedAt
          return next()
        }
        refusedAt = performance.now()
        ctx.status = 503
        ctx.set('Retry-After', '3')
        return undefined
      },
    })
    await send(site, 1, 5)
    await sees(page, 5)
    site.cut()
    await send(site, 6, 6)
    if (!(await sees(page, 6))) return 'stops for good'
    return yes(wait >= 3000)
  },

  async 'stops at 204'(control) {
    let asked = 0
    const { site, page } = await connected(control, {
      before(ctx, next) {
        if (++asked === 1) return next()
        ctx.status = 204
        return undefined
      },
    })
    await send(site, 1, 5)
    await sees(page, 5)
    site.cut()
    await site.until(({ requests }) => requests.length > 1)
    await sleep(PATIENCE_MS / 3)
    return yes(site.requests.length === 2)
  },

  async 'tells of a gap'(control) {
    const { site, page } = await connected(control, { pool: { window: { events: 5 } } })
    await send(site, 1, 2)
    await sees(page, 2)
    site.cut()
    await send(site, 3, 30)
    return yes(await within(page, () => window.tab.gaps.length > 0))
  },

  async 'eight tabs on HTTP/1.1'(control) {
    const site = await serve(control)
    // With six streams open, no further page of the origin loads.
    const pages: Page[] = []
    for (let n = 1; n <= 8; n++) pages.push(await openPage(control.browser, `${site.origin}/`))
    for (const page of pages) await start(page, control.client)
    await site.until(({ pool }) => pool.connections > 0)
    // A tab that is not connected by then waits for another one to go.
    await sleep(PATIENCE_MS / 5)
    await send(site, 1, 1)
    const served = await Promise.all(pages.map(page => sees(page, 1, PATIENCE_MS / 5)))
    const live = served.filter(Boolean).length
    return `${live} live, ${site.pool.connections} connection${site.pool.connections > 1 ? 's' : ''}`
  },

  async 'loses nothing when the leading tab is killed'(control) {
    if (control.client !== 'koa-sse-pool/client') return NO_SHARING
    const site = await serve(control)
    const leading = await connect(control, `${site.origin}`)
    await site.until(({ pool }) => pool.connections === 1)
    const following = await connect(control, `${site.origin}`)
    await send(site, 1, 50)
    await sees(following, 50)
    for (const number of numbers(51, 100)) {
      void site.pool.send('ada', number)
      if (number === '75') leading.signal?.('SIGKILL')
    }
    return yes((await sees(following, 100)) && (await hasExactly(following, 100)))
  },
}

type ServeOptions = Pick<TabSiteOptions, 'before' | 'pool'>

function serve({ script }: Control, options: ServeOptions = {}) {
  const pool = { pingInterval: PING_MS, ...options.pool }
  return serveTabs({ script, ...options, pool })
}

async function connected(control: Control, options?: ServeOptions, hasHeaders?: boolean) {
  const site = await serve(control, options)
  const page = await connect(control, site.origin, hasHeaders)
  await site.until(({ requests }) => requests.length > 0)
  // A client that was refused sends nothing more.
  await Promise.race([site.until(({ pool }) => pool.connections > 0), sleep(PATIENCE_MS / 5)])
  return { site, page }
}

async function connect({ browser, client }: Control, origin: string, hasHeaders = false) {
  const page = await openPage(browser, `${origin}/`)
  await start(page, client, hasHeaders)
  return page
}

function start(page: Page, client: string, hasHeaders = false): Promise<void> {
  return page.eval(
    (name, isAuthorized) => {
      let asked = 0
      const headers = () => ({ Authorization: `Bearer ${++asked}` })
      window.clients[name]?.('/events', isAuthorized ? { headers } : {})
    },
    client,
    hasHeaders,
  )
}

function sees(page: Page, number: number, patience = PATIENCE_MS): Promise<boolean> {
  return within(page, text => window.tab.data.includes(text), String(number), patience)
}

/** Whether the condition holds within the time. */
function within(
  page: Page,
  condition: (argument: string) => boolean,
  argument = '',
  patience = PATIENCE_MS,
): Promise<boolean> {
  return page.eval(
    (source, given, ms) => {
      const holds: (argument: string) => boolean = new Function(`return ${source}`)()
      const late = new Promise<boolean>(resolve => setTimeout(resolve, ms, false))
      return Promise.race([late, window.tab.until(() => holds(given)).then(() => true)])
    },
    String(condition),
    argument,
    patience,
  )
}

async function hasExactly(page: Page, last: number): Promise<boolean> {
  const data = await page.eval(() => window.tab.data)
  return JSON.stringify(data) === JSON.stringify(numbers(1, last))
}

function yes(isSo: boolean): string {
  return isSo ? 'yes' : 'no'
}
