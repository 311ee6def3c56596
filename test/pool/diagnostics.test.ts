/** What a pool publishes on Node's `diagnostics_channel`. */
import diagnosticsChannel from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const EVENTS = ['open', 'start', 'close', 'gap', 'error']

function record() {
  const published: [event: string, message: Record<string, unknown>][] = []
  for (const event of EVENTS) {
    const listen = (message: unknown) => {
      published.push([event, message as Record<string, unknown>])
    }
    diagnosticsChannel.subscribe(`koa-sse-pool:${event}`, listen)
    onTestFinished(() => {
      diagnosticsChannel.unsubscribe(`koa-sse-pool:${event}`, listen)
    })
  }
  return published
}

test('each event of a pool is published, with its arguments by name', async () => {
  const published = record()
  const log = new FakeLog('a')
  const pool = testPool({ log })
  pool.on('error', () => {})
  const { origin } = await serveStreams({ pool })
  const headers = { 'Last-Event-ID': 'forged' }
  const ids = Array.from({ length: 10 }, (_, i) => `client-${i}`)
  const clients = await Promise.all(ids.map(id => connect(origin, `/?id=${id}`, { headers })))
  await Promise.all(clients.map(client => client.event('sse.gap')))
  for (const id of ids) await pool.remove(id)
  await expect.poll(() => pool.connections).toBe(0)
  log.sink.error(new Error('broken'))
  const of = (event: string) => published.filter(([name]) => name === event).map(([, it]) => it)
  for (const event of ['open', 'start']) {
    const streams = of(event).map(({ stream }) => (stream as { id: string }).id)
    expect(streams.toSorted()).toEqual(ids)
  }
  expect(of('gap').map(({ reason }) => reason)).toEqual(ids.map(() => 'unknown'))
  expect(of('close').map(({ reason }) => reason)).toEqual(ids.map(() => 'removed'))
  expect(of('error')).toEqual([{ error: new Error('broken') }])
})

test('docs/metrics.md lists these channels', () => {
  const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')
  const listed = [...page.matchAll(/^\| `koa-sse-pool:(\w+)` \|/gm)].map(([, event]) => event)
  expect(listed).toEqual(EVENTS)
})
