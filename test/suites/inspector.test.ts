/** The inspector of one process shows the streams of another, on every engine. */
import http from 'node:http'
import Router from '@koa/router'
import Koa from 'koa'
import { type ClientPool, sse } from 'koa-sse-pool'
import { inspector } from 'koa-sse-pool/inspector'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type EngineName, EngineServers } from '../helpers/engines.js'
import { connect, listen, testPool } from '../helpers/server.js'

let servers: EngineServers
beforeAll(async () => {
  servers = await EngineServers.start()
})
afterAll(() => servers.stop())

async function serve(pool: ClientPool): Promise<string> {
  const router = new Router()
  router.all('/inspector{/*path}', inspector(pool, { authorize: () => true, actions: ['remove'] }))
  router.get('/events', sse({ pool, id: ctx => ctx.query.id }))
  const { origin } = await listen(http.createServer(new Koa().use(router.routes()).callback()))
  return origin
}

test.each<[EngineName, string]>([
  ['cluster', 'node:cluster'],
  ['sqlite', 'SQLite'],
  ['node-redis', 'Redis'],
  ['ioredis', 'Redis'],
  ['nats', 'NATS'],
  ['postgres', 'PostgreSQL'],
])('over %s', async (engine, name) => {
  const log = servers.newName()
  const open = async () => testPool({ log: await servers.log(engine, 0, log) })
  const pools = [await open(), await open()] as const
  const [here, there] = [await serve(pools[0]), await serve(pools[1])]
  const bob = await connect(there, '/events?id=bob')
  await bob.event('sse.cursor')
  await pools[0].send('bob', { event: 'hello', data: 1 })
  await bob.event('hello')

  const get = async (path: string) => (await fetch(`${here}/inspector/${path}`)).json()
  const { rows, missing } = await get('streams')
  expect(missing).toEqual([])
  expect(rows).toMatchObject([{ id: 'bob', behind: 0, state: 'live' }])
  const [{ process, stream }] = rows
  const { sent } = await get(`sent?process=${process}&stream=${stream}`)
  expect(sent).toMatchObject([{ event: 'hello', target: '@bob' }])

  const page = await connect(here, '/inspector/events')
  const { processes } = JSON.parse((await page.event('processes')).data)
  expect(processes).toMatchObject([{ engine: name }, { engine: name }])

  const removed = await fetch(`${here}/inspector/remove`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Sec-Fetch-Site': 'same-origin' },
    body: JSON.stringify({ client: 'bob' }),
  })
  expect(removed.status).toBe(200)
  await bob.ended
  expect(bob.lastEventId).toBe('sse.end')
})
