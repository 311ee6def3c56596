/** The app in docs/middleware.md: what its middleware do with a stream, and a stream with them. */
import http from 'node:http'
import type Koa from 'koa'
import type { ClientPool } from 'koa-sse-pool'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { importSnippet } from '../helpers/run-snippets.js'
import { connect, listen } from '../helpers/server.js'

let app: Koa
let pool: ClientPool

beforeAll(async () => {
  const exported = await importSnippet('docs/middleware.md', 'app.js')
  app = exported.app as Koa
  pool = exported.pool as ClientPool
  app.silent = true
  vi.spyOn(console, 'log').mockImplementation(() => {}) // koa-logger
})

afterAll(() => pool.close())

async function serve() {
  const { origin } = await listen(http.createServer(app.callback()))
  const signIn = await fetch(`${origin}/session`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: '{"user":"ada"}',
  })
  const cookie = signIn.headers
    .getSetCookie()
    .map(line => line.split(';')[0])
    .join('; ')
  return { origin, cookie }
}

const browser = { Origin: 'https://app.example', 'Accept-Encoding': 'gzip' }

test('a stream opens for the user of the session, with the headers of all middleware', async () => {
  const { origin, cookie } = await serve()
  const client = await connect(origin, '/events', { headers: { ...browser, cookie } })
  expect(client.status).toBe(200)
  expect(client.headers).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'access-control-allow-origin': 'https://app.example',
    'access-control-allow-credentials': 'true',
    'x-content-type-options': 'nosniff',
  })
  expect(client.headers).not.toHaveProperty('content-encoding')
  await pool.send('ada', 'live')
  await client.until(({ data }) => data.includes('live'))
})

test('a refusal is JSON that a page of another origin may read', async () => {
  const { origin } = await serve()
  const response = await fetch(`${origin}/events`, {
    headers: { ...browser, Accept: 'text/event-stream' },
  })
  expect(response.status).toBe(401)
  expect(await response.json()).toEqual({ error: 'Unauthorized' })
})

test('the middleware after the router answers all other paths', async () => {
  const { origin } = await serve()
  const response = await fetch(`${origin}/about`)
  expect(await response.text()).toBe('the page for all other paths')
})
