/** The script that `clientScript()` serves, and how long a browser may keep it. Needs a build. */
import { readFileSync } from 'node:fs'
import { createContext, runInContext } from 'node:vm'
import Router from '@koa/router'
import Koa3, { type Middleware } from 'koa'
import compress from 'koa-compress'
import conditional from 'koa-conditional-get'
import etag from 'koa-etag'
import mount from 'koa-mount'
import { clientScript } from 'koa-sse-pool'
import Koa2 from 'koa2'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'

const script = clientScript()
const text = readFileSync(new URL('../../dist/client.global.js', import.meta.url), 'utf8')
const tag = `"${script.version}"`
const FOREVER = 'public, max-age=31536000, immutable'

afterEach(() => {
  vi.restoreAllMocks()
})

test('the script makes PoolEventSource a global', () => {
  const page = createContext({ EventTarget })
  runInContext(text, page)
  const { CONNECTING, OPEN, CLOSED } = page.PoolEventSource
  expect([CONNECTING, OPEN, CLOSED]).toEqual([0, 1, 2])
})

describe.each([
  ['3', Koa3],
  ['2.16', Koa2],
])('clientScript() on Koa %s', (_, Koa) => {
  const serve = (...all: Middleware[]) => {
    const app = new Koa()
    for (const one of all) app.use(one)
    return request(app.callback())
  }

  test('serves the built script with an ETag, to be asked for again each time', async () => {
    const response = await serve(script).get('/client.js').buffer().expect(200, text)
    expect(response.headers).toMatchObject({
      'content-type': 'text/javascript; charset=utf-8',
      'content-length': `${Buffer.byteLength(text)}`,
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
      etag: tag,
    })
  })

  test.each([
    ['the ETag', tag],
    ['the weak ETag that a proxy made of it', `W/${tag}`],
    ['one ETag of several', `"old", ${tag}`],
    ['any', '*'],
  ])('answers 304 without a body to If-None-Match with %s', async (_, value) => {
    const response = await serve(script).get('/').set('If-None-Match', value).expect(304, '')
    expect(response.headers).toMatchObject({ etag: tag, 'cache-control': 'no-cache' })
    expect(response.headers).not.toHaveProperty('content-type')
  })

  test('sends the script to a browser that has another version', async () => {
    await serve(script).get('/').set('If-None-Match', '"old"').buffer().expect(200, text)
  })

  test('may be kept for a year under its version', async () => {
    const url = `/client.js?v=${script.version}`
    const response = await serve(script).get(url).buffer().expect(200, text)
    expect(response.headers['cache-control']).toBe(FOREVER)
    const again = await serve(script).get(url).set('If-None-Match', tag).expect(304)
    expect(again.headers['cache-control']).toBe(FOREVER)
  })

  test.each([
    ['an old version', 'v=old'],
    ['an empty one', 'v='],
    ['one that is too long', `v=${script.version}x`],
    ['two of them', `v=${script.version}&v=old`],
  ])('has to be asked for again under %s', async (_, query) => {
    const response = await serve(script).get(`/?${query}`).buffer().expect(200, text)
    expect(response.headers['cache-control']).toBe('no-cache')
  })

  test('answers HEAD with the headers of GET', async () => {
    const got = await serve(script).get('/')
    const { headers, text: body } = await serve(script).head('/').expect(200)
    expect(body ?? '').toBe('')
    expect({ ...headers, date: '' }).toEqual({ ...got.headers, date: '' })
    await serve(script).head('/').set('If-None-Match', tag).expect(304)
  })

  test.each(['post', 'put', 'delete', 'options'] as const)(
    'leaves %s to the next middleware',
    async method => {
      const next: Middleware = ctx => {
        ctx.status = 202
      }
      const response = await serve(script, next)[method]('/').expect(202)
      expect(response.headers).not.toHaveProperty('etag')
      await serve(script)[method]('/').expect(404)
    },
  )

  test('does not call the next middleware for GET', async () => {
    const next = vi.fn()
    await serve(script, next).get('/').expect(200)
    expect(next).not.toHaveBeenCalled()
  })

  test('works behind koa-mount and under the prefix of a router', async () => {
    const router = new Router({ prefix: '/app' })
    router.get('/client.js', script)
    const server = serve(mount('/assets/client.js', script), router.routes() as Middleware)
    for (const path of ['/assets/client.js', '/app/client.js']) {
      await server.get(path).buffer().expect(200, text)
      await server.get(path).set('If-None-Match', tag).expect(304)
      const versioned = await server.head(`${path}?v=${script.version}`).expect(200)
      expect(versioned.headers['cache-control']).toBe(FOREVER)
    }
    await server.get('/client.js').expect(404)
  })

  test('works with koa-compress, koa-conditional-get and koa-etag around it', async () => {
    // koa-etag announces its successor there.
    vi.spyOn(console, 'warn').mockImplementation(() => {})
    const server = serve(compress(), conditional(), etag(), script)
    const packed = await server.get('/').set('Accept-Encoding', 'gzip').buffer().expect(200, text)
    expect(packed.headers).toMatchObject({
      'content-encoding': 'gzip',
      vary: 'Accept-Encoding',
      etag: tag,
    })
    await server.get('/').set('Accept-Encoding', 'identity').buffer().expect(200, text)
    await server.get('/').set('If-None-Match', tag).expect(304, '')
    await server.head('/').set('If-None-Match', `W/${tag}`).expect(304)
  })
})

test('two middlewares serve the same version', () => {
  expect(clientScript().version).toBe(script.version)
  // It stands in a URL as it is.
  expect(script.version).toMatch(/^[\w-]{16}$/)
})
