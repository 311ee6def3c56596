/** The client over an EventSource as browsers have one. */
import { EventSource } from 'eventsource'
import { PoolEventSource } from 'koa-sse-pool/client'
import { expect, onTestFinished, test, vi } from 'vitest'
import { serveStreams, testPool } from '../helpers/server.js'

test('emits open and error once each, and passes on events of the server with these names', async () => {
  vi.stubGlobal('EventSource', EventSource)
  onTestFinished(() => void vi.unstubAllGlobals())
  const pool = testPool()
  const { origin, cut } = await serveStreams({ pool, retry: 10 })
  const events = new PoolEventSource(`${origin}/?id=ada`)
  onTestFinished(() => events.close())
  const seen: string[] = []
  events.onopen = ({ type }) => seen.push(`on${type}`)
  events.onerror = ({ type }) => seen.push(`on${type}`)
  for (const type of ['open', 'error'] as const) {
    events.addEventListener(type, event => {
      seen.push(event instanceof MessageEvent ? `${type} ${event.data}` : type)
    })
  }
  await expect.poll(() => seen).toEqual(['onopen', 'open'])
  cut()
  await expect.poll(() => seen.slice(2)).toEqual(['onerror', 'error', 'onopen', 'open'])
  await pool.send('ada', { event: 'open', data: 'sesame' })
  await expect.poll(() => seen.slice(6)).toEqual(['onopen', 'open sesame'])
})
