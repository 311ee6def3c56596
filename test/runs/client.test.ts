/** The client for pages reads a run, as docs/answers.md shows it. */
import { EventSource } from 'eventsource'
import { PoolEventSource } from 'koa-sse-pool/client'
import type { Run, RunAppendable } from 'koa-sse-pool/runs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { serveRuns } from '../helpers/runs.js'

test.each(['native', 'fetch'])('reads a run across a cut to its end by %s', async transport => {
  // Node 20 has none, so the client uses fetch.
  if (transport === 'native') vi.stubGlobal('EventSource', EventSource)
  onTestFinished(() => void vi.unstubAllGlobals())
  const { runs, origin, cut } = await serveRuns({ stream: { retry: 10 } })
  const begun = deferred<Run<RunAppendable>>()
  const end = deferred()
  await runs.start('one', async run => {
    begun.resolve(run)
    await end.promise
  })
  const { append } = await begun.promise
  await append({ event: 'token', data: { token: 'a' } })
  const events = new PoolEventSource(`${origin}/runs/one`, { json: true })
  onTestFinished(() => events.close())
  const seen: unknown[] = []
  events.addEventListener('close', ({ data }) => seen.push(data))
  events.addEventListener('token', ({ data }) => seen.push(data))
  await expect.poll(() => seen).toEqual([{ token: 'a' }])
  cut()
  await append({ event: 'token', data: { token: 'b' } })
  await expect.poll(() => seen).toEqual([{ token: 'a' }, { token: 'b' }])
  end.resolve()
  await expect.poll(() => events.status).toBe('ended')
  expect(seen).toEqual([{ token: 'a' }, { token: 'b' }, { state: 'done' }])
})
