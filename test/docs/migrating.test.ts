/** The code after each "After" in docs/migrating.md, in an app with what a reader of the page has. */
import http from 'node:http'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa, { type Middleware } from 'koa'
import { sse } from 'koa-sse-pool'
import { afterEach, expect, test, vi } from 'vitest'
import { importSnippet } from '../helpers/run-snippets.js'
import { connect, listen, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.unstubAllGlobals()
})

/** Serves the routes of a snippet. A client says who it is by the header `User`. */
async function serve(file: string) {
  const router = new Router()
  const signedIn: Middleware = (ctx, next) => {
    ctx.state.user = { id: ctx.get('User') }
    return next()
  }
  const known = { router, pool: testPool(), sse, signedIn }
  for (const [name, value] of Object.entries(known)) vi.stubGlobal(name, value)
  await importSnippet('docs/migrating.md', file)
  const app = new Koa().use(bodyParser()).use(router.routes())
  const { origin } = await listen(http.createServer(app.callback()))
  return {
    open: (path: string, user = '') => connect(origin, path, { headers: { User: user } }),
    async post(path: string, body: object, user = '') {
      const headers = { 'Content-Type': 'application/json', User: user }
      const response = await fetch(`${origin}${path}`, {
        method: 'POST',
        headers,
        body: JSON.stringify(body),
      })
      expect(response.ok).toBe(true)
      return response.text()
    },
  }
}

test('from koa-sse-stream: an event reaches its client, and removing it ends its stream', async () => {
  const { open, post } = await serve('after-koa-sse-stream.js')
  const client = await open('/event/push?id=ada')
  await post('/event/progress', { id: 'ada' })
  expect((await client.event('update')).data).toBe('{"count":42}')
  await post('/event/remove', { id: 'ada' })
  expect(await client.ended).toBe(true)
  expect(client.lastEventId).toBe('sse.end')
})

test('from better-sse: a client is greeted and gets what is sent to the channel', async () => {
  const { open, post } = await serve('after-better-sse.js')
  const client = await open('/events')
  expect((await client.event('greeting')).data).toBe('"hello"')
  await post('/news', {})
  expect((await client.event('item')).data).toBe('{"title":"Rain"}')
})

test('from Socket.IO: what one says in a room reaches the others, and the response confirms it', async () => {
  const { open, post } = await serve('after-socket-io.js')
  const ada = await open('/rooms/7/events', 'ada')
  const bob = await open('/rooms/7/events', 'bob')
  const eve = await open('/rooms/8/events', 'eve')
  expect(await post('/rooms/7/say', { text: 'hello' }, 'ada')).toBe('ok')
  expect((await bob.event('said')).data).toBe('{"text":"hello"}')
  await post('/rooms/8/say', { text: 'hello, Eve' }, 'ada')
  expect((await eve.event('said')).data).toBe('{"text":"hello, Eve"}')
  await post('/rooms/7/say', { text: 'hello, Ada' }, 'bob')
  expect((await ada.event('said')).data).toBe('{"text":"hello, Ada"}')
  expect(bob.data).toHaveLength(1)
})

test('from ws: what one says reaches everyone else', async () => {
  const { open, post } = await serve('after-ws.js')
  const ada = await open('/events', 'ada')
  const bob = await open('/events', 'bob')
  await post('/say', { text: 'one' }, 'ada')
  await post('/say', { text: 'two' }, 'bob')
  await ada.until(({ data }) => data.length > 0)
  await bob.until(({ data }) => data.length > 0)
  expect([ada.data, bob.data]).toEqual([['two'], ['one']])
})

test('from res.write: everyone gets the event', async () => {
  const { open, post } = await serve('after-res-write.js')
  const client = await open('/events')
  await post('/news', {})
  await client.until(({ data }) => data.includes('{"title":"Rain"}'))
})

test('from Mercure: only those who follow the book get its update', async () => {
  const { open, post } = await serve('after-mercure.js')
  const first = await open('/books/1/events', 'ada')
  const second = await open('/books/2/events', 'ada')
  await post('/books/1', {}, 'ada')
  await post('/books/2', {}, 'ada')
  for (const client of [first, second]) {
    await client.until(({ data }) => data.length > 0)
    expect(client.data).toEqual(['{"status":"checked out"}'])
  }
})
