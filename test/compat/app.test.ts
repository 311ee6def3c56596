/** The app of most tutorials for koa-sse-stream, unchanged except for its import. */
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import koasse from 'koa-sse-pool/compat'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { connect } from '../helpers/server.js'
import { answer, type Handler, keepAlive, koas, serve } from './serve.js'

// biome-ignore lint/suspicious/noExplicitAny: an app without types
type Client = { sse: any; timer: NodeJS.Timeout | null; count: number }

function routes() {
  const clientList = new Map<string, Client>()
  const SSE_CONF = {
    maxClients: 2,
    pingInterval: 3000,
  }
  const eventPush: Handler = ctx => {
    const { id } = ctx.query
    clientList.set(id, { sse: ctx.sse, timer: null, count: 0 })
  }
  const eventProgress: Handler = ctx => {
    const client = clientList.get(ctx.request.body.id) as Client
    client.timer = setInterval(() => {
      client.count += 5
      const data = JSON.stringify({ count: client.count })
      client.sse.send({ event: 'update', data, id: client.count, retry: 3000 })
      if (client.count >= 100) {
        clearInterval(client.timer as NodeJS.Timeout)
        client.sse.sendEnd()
      }
    }, 1000)
    ctx.body = { ok: true }
  }
  const eventRemove: Handler = ctx => {
    const { id } = ctx.query
    clearInterval(clientList.get(id)?.timer as NodeJS.Timeout)
    clientList.delete(id)
    ctx.body = { ok: true }
  }
  const router = new Router()
  router.get('/event/push', koasse(SSE_CONF), eventPush)
  router.post('/event/progress', eventProgress)
  router.get('/event/remove', eventRemove)
  return { router, clientList }
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
})
afterEach(() => {
  vi.useRealTimers()
})

describe.each(koas)('on %s the app of the tutorials', (_, Koa) => {
  async function start() {
    const { router, clientList } = routes()
    const server = await serve(Koa, bodyParser(), router.routes(), router.allowedMethods())
    const progress = (id: string) =>
      fetch(`${server.origin}/event/progress`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ id }),
      })
    return { ...server, clientList, progress }
  }

  test('pushes progress by five every second through a stored ctx.sse, then ends', async () => {
    const { origin, progress, errors } = await start()
    const client = await connect(origin, '/event/push?id=ada', keepAlive)
    const other = await connect(origin, '/event/push?id=bob')
    expect((await progress('ada')).status).toBe(200)

    for (let second = 1; second <= 20; second++) {
      vi.advanceTimersByTime(1000)
      await client.until(({ events }) => events.length >= second)
    }
    expect(await client.ended).toBe(true)

    expect(client.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache, no-transform',
      connection: 'keep-alive',
      'x-accel-buffering': 'no',
    })
    const updates = client.events.filter(({ event }) => event === 'update')
    expect(updates.map(({ data }) => JSON.parse(data).count)).toEqual(
      Array.from({ length: 20 }, (_, i) => (i + 1) * 5),
    )
    expect(updates[0]).toMatchObject({ id: '5' })
    expect(client.events.at(-1)).toMatchObject({ event: 'close', data: '' })
    expect(other.events).toEqual([])
    expect(errors).toEqual([])
  })

  test('keeps running when a page leaves in mid-progress and removes itself', async () => {
    const { origin, progress, clientList, errors } = await start()
    const client = await connect(origin, '/event/push?id=ada')
    await progress('ada')
    vi.advanceTimersByTime(1000)
    await client.event('update')

    const { sse } = clientList.get('ada') as Client
    const closed = new Promise(resolve => sse.once('close', resolve))
    client.close()
    await closed
    vi.advanceTimersByTime(5000)
    expect(sse.send('too late')).toBe(false)
    expect((await answer(origin, '/event/remove?id=ada')).status).toBe(200)
    expect(clientList.size).toBe(0)
    expect(errors).toEqual([])
  })

  test('refuses a third client and accepts it once another one has left', async () => {
    const { origin, clientList } = await start()
    const first = await connect(origin, '/event/push?id=1')
    await connect(origin, '/event/push?id=2')
    expect((await answer(origin, '/event/push?id=3')).status).toBe(404)
    expect(clientList.get('3')?.sse).toBeUndefined()

    const closed = new Promise(resolve => clientList.get('1')?.sse.once('close', resolve))
    first.close()
    await closed
    const third = await connect(origin, '/event/push?id=3')
    clientList.get('3')?.sse.send({ event: 'update', data: 'welcome' })
    expect(await third.event('update')).toMatchObject({ data: 'welcome' })
  })
})
