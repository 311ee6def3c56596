/** Recipes of docs/recipes.md that are routes and pages, run as they are. */
import http from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa, { type Middleware } from 'koa'
import { type ClientPool, sse } from 'koa-sse-pool'
import request from 'supertest'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { closeOf, deferred, watchCloses } from '../helpers/app.js'
import { importSnippet } from '../helpers/run-snippets.js'
import { listen, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.unstubAllGlobals()
  vi.unstubAllEnvs()
})

/** Serves the routes of a recipe to ada. */
async function serve(file: string, pool: ClientPool = testPool()) {
  const router = new Router()
  let isOnline = Promise.resolve()
  const signedIn: Middleware = async (ctx, next) => {
    if (ctx.path === '/events') await isOnline
    ctx.state.user = { id: 'ada' }
    return next()
  }
  const known = { router, pool, sse, signedIn }
  for (const [name, value] of Object.entries(known)) vi.stubGlobal(name, value)
  const exported = await importSnippet('docs/recipes.md', file)
  const errors: Error[] = []
  const app = new Koa().use(bodyParser()).use(router.routes())
  app.on('error', error => errors.push(error))
  const server = await listen(http.createServer(app.callback()))
  /** Cuts all connections, and lets no stream open again before the work is done. */
  const whileAway = async (work: () => Promise<unknown>) => {
    const back = deferred()
    isOnline = back.promise
    server.cut()
    await work()
    back.resolve()
  }
  return { ...server, pool, errors, exported, whileAway }
}

describe('forwarding the event stream of another service', () => {
  /** A provider, and a client that has asked for its answer. */
  async function forward(handle: (response: http.ServerResponse) => void) {
    const asked = deferred<http.IncomingMessage>()
    const upstream = http.createServer((received, response) => {
      asked.resolve(received)
      handle(response)
    })
    const provider = await listen(upstream)
    vi.stubEnv('UPSTREAM_URL', provider.origin)
    vi.stubEnv('UPSTREAM_KEY', 'secret')
    const app = await serve('forward.js')
    const client = http.request(`${app.origin}/answer`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
    })
    onTestFinished(() => void client.destroy())
    client.end('{"question":"why"}')
    const answered = new Promise<http.IncomingMessage>(resolve => client.once('response', resolve))
    return { ...app, client, asked: asked.promise, answered }
  }

  const read = async (response: http.IncomingMessage) => {
    let text = ''
    for await (const chunk of response) text += chunk
    return text
  }

  const begin = (response: http.ServerResponse) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    response.write('id: 7\nevent: token\ndata: Be\n\n')
  }

  test('passes on its events, and ends with it', async () => {
    const { answered, asked, errors } = await forward(provider => {
      begin(provider)
      provider.end('event: token\ndata: cause\n\n')
    })
    const response = await answered
    expect((await asked).headers.authorization).toBe('Bearer secret')
    const text = await read(response)
    expect(text).toContain('event: token\ndata: Be\n\nevent: token\ndata: cause\n\nevent: close\n')
    expect(text).not.toContain('id: 7')
    expect(errors).toEqual([])
  })

  test('stops the service when the client leaves, without an error', async () => {
    const { answered, asked, pool, errors } = await forward(begin)
    const response = await answered
    const { socket } = await asked
    const stopped = closeOf(socket)
    const { next } = watchCloses(pool)
    response.once('data', () => response.destroy())
    expect(await next).toBe('client')
    await stopped
    await turn()
    expect(errors).toEqual([])
  })

  test('stops the service when the client leaves before the answer begins', async () => {
    const { client, asked, pool, errors } = await forward(() => {})
    const { socket } = await asked
    const stopped = closeOf(socket)
    const { next } = watchCloses(pool)
    client.on('error', () => {}).destroy()
    expect(await next).toBe('client')
    await stopped
    await turn()
    expect(errors).toEqual([])
  })

  test('cuts the response when the service breaks off', async () => {
    const { answered, errors, pool } = await forward(provider => {
      begin(provider)
      provider.write('data: ', () => provider.destroy())
    })
    const response = await answered
    const { next } = watchCloses(pool)
    await expect(read(response)).rejects.toThrow('aborted')
    expect(await next).toBe('error')
    expect(errors).toHaveLength(1)
  })

  test('answers 502 when the service refuses', async () => {
    const { answered, pool } = await forward(provider => {
      provider.writeHead(429).end('slow down')
    })
    const response = await answered
    expect(response.statusCode).toBe(502)
    expect(pool.stats()).toMatchObject({ streams: 0 })
  })
})

describe('unread notifications', () => {
  /** The page of the recipe, with what it shows. */
  async function openPage(origin: string) {
    const page = Object.assign(new EventTarget(), {
      baseURI: `${origin}/`,
      visibilityState: 'visible',
    })
    vi.stubGlobal('document', page)
    const realFetch = fetch
    const loads: string[] = []
    vi.stubGlobal('fetch', (url: string, init?: RequestInit) => {
      if (url === '/notifications') loads.push(url)
      return realFetch(new URL(url, origin), init)
    })
    let shown: string[] = []
    const waiting = new Set<() => void>()
    vi.stubGlobal('show', (_: string, texts: string[]) => {
      shown = texts
      for (const check of waiting) check()
    })
    await importSnippet('docs/recipes.md', 'unread-page.js')
    return {
      loads,
      /** Resolves once the page shows these texts. */
      shows: (texts: string[]) =>
        new Promise<void>(resolve => {
          const check = () => {
            if (JSON.stringify(shown) === JSON.stringify(texts)) resolve()
          }
          waiting.add(check)
          check()
        }),
    }
  }

  test('are all shown after a gap, without those that were read elsewhere', async () => {
    const pool = testPool({ window: { events: 3 } })
    const { origin, whileAway, exported } = await serve('unread.js', pool)
    const notify = exported.notify as (user: string, text: string) => Promise<void>
    const readAll = async (...texts: string[]) => {
      // Over connections of their own, because those of the page are cut.
      const { body } = await request(origin).get('/notifications')
      const chosen = (body as Unread[]).filter(({ text }) => texts.includes(text))
      await request(origin)
        .post('/notifications/read')
        .send({ ids: chosen.map(({ id }) => id) })
        .expect(204)
    }

    await notify('ada', 'old')
    const { shows, loads } = await openPage(origin)
    await shows(['old'])
    await notify('ada', 'one')
    await notify('bob', 'not for ada')
    await shows(['old', 'one'])
    await readAll('old')
    await shows(['one'])
    expect(loads).toHaveLength(1)

    await whileAway(async () => {
      // More than the window holds.
      for (const text of ['two', 'three', 'four', 'five']) await notify('ada', text)
      await readAll('one', 'three')
    })
    await shows(['two', 'four', 'five'])
    expect(loads).toHaveLength(2)

    // Otherwise the page would try to reconnect after the test.
    const { next } = watchCloses(pool)
    await pool.remove('ada')
    expect(await next).toBe('removed')
  })
})

interface Unread {
  readonly id: string
  readonly text: string
}
