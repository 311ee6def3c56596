/** OpenAI's client as the judge of `format: 'openai'`. */
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import type Koa from 'koa'
import type { ClientPool, PoolOptions } from 'koa-sse-pool'
import { type Run, type RunAppendable, Runs, type RunsOptions } from 'koa-sse-pool/runs'
import OpenAI, { APIError, type ClientOptions } from 'openai'
import { expect, onTestFinished, test } from 'vitest'
import { deferred, serveApp, watchCloses } from '../helpers/app.js'
import { fetchCounting } from '../helpers/heartbeats.js'
import { testPool } from '../helpers/server.js'

const chunkOf = (content: string) => ({
  data: {
    id: 'chatcmpl-1',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'test',
    choices: [{ index: 0, delta: { content }, finish_reason: null }],
  },
})

/** A Chat Completions API of our own. The name of the run is the `user` of the request. */
async function serveCompletions({
  pool: poolOptions,
  ...options
}: { pool?: PoolOptions } & Omit<Partial<RunsOptions>, 'pool'> = {}) {
  const pool = testPool(poolOptions) as ClientPool
  pool.on('error', () => {})
  const runs = new Runs({ pool, ...options })
  onTestFinished(() => runs.close({ timeout: 0 }))
  const begun = deferred<Run<RunAppendable>>()
  const end = deferred()
  const router = new Router()
  router.post(
    '/v1/chat/completions',
    async (ctx, next) => {
      ctx.state.run = (ctx.request.body as { user: string }).user
      await runs.start(ctx.state.run, async run => {
        begun.resolve(run)
        await end.promise
      })
      return next()
    },
    runs.stream({ id: ctx => ctx.state.run, format: 'openai' }),
  )
  const { origin, cut } = await serveApp(bodyParser(), router.routes() as Koa.Middleware)
  const client = new OpenAI({ baseURL: `${origin}/v1`, apiKey: 'none', maxRetries: 0 })
  const create = (options: ClientOptions = {}) =>
    client.withOptions(options).chat.completions.create({
      model: 'test',
      messages: [{ role: 'user', content: 'How are you?' }],
      stream: true,
      user: 'one',
    })
  const say = async (...texts: string[]) => {
    for (const text of texts) await (await begun.promise).append(chunkOf(text))
  }
  return { pool, runs, create, say, run: begun.promise, end: end.resolve, fail: end.reject, cut }
}

type Chunks = Awaited<ReturnType<Awaited<ReturnType<typeof serveCompletions>>['create']>>

async function textOf(chunks: Chunks): Promise<string> {
  let text = ''
  for await (const { choices } of chunks) text += choices[0]?.delta.content
  return text
}

test('gets every chunk, and the end', async () => {
  const { create, say, end } = await serveCompletions()
  const chunks = await create()
  await say('Fine', ', ', 'thanks')
  end()
  expect(await textOf(chunks)).toBe('Fine, thanks')
})

test('gets the same from the beginning when it asks again', async () => {
  const { create, say, end } = await serveCompletions()
  const first = await create()
  await say('Fine', ', ')
  const second = await create()
  await say('thanks')
  end()
  expect(await textOf(first)).toBe('Fine, thanks')
  expect(await textOf(second)).toBe('Fine, thanks')
  expect(await textOf(await create())).toBe('Fine, thanks')
})

test('throws an APIError with the text of onError when the run fails', async () => {
  const { create, say, fail } = await serveCompletions({ onError: () => 'No model is available' })
  const chunks = await create()
  await say('Fine')
  const text = textOf(chunks)
  fail(new Error('key 1234 is over its quota'))
  await expect(text).rejects.toThrow(APIError)
  await expect(text).rejects.toMatchObject({
    error: { message: 'No model is available', type: 'server_error' },
  })
})

test('ends without an error when the run is stopped', async () => {
  const { runs, create, say, run } = await serveCompletions()
  const chunks = await create()
  await say('Fine')
  await (await run).flush()
  await runs.stop('one')
  expect(await textOf(chunks)).toBe('Fine')
  expect((await run).signal.aborted).toBe(true)
})

test('does not stop the run by aborting its request', async () => {
  const { pool, create, say, run, end } = await serveCompletions()
  const { next: closed } = watchCloses(pool)
  const chunks = await create()
  await say('Fine')
  for await (const _ of chunks) chunks.controller.abort()
  expect(await closed).toBe('client')
  expect((await run).signal.aborted).toBe(false)
  await say(', thanks')
  end()
  expect(await textOf(await create())).toBe('Fine, thanks')
})

test('throws when its connection is cut in mid-answer', async () => {
  const { create, say, cut } = await serveCompletions()
  const chunks = await create()
  await say('Fine')
  await expect(
    (async () => {
      for await (const _ of chunks) cut()
    })(),
  ).rejects.toThrow()
})

test('reads past heartbeats while the model is quiet', async () => {
  const { create, say, end } = await serveCompletions({ pool: { pingInterval: 10 } })
  const heartbeats = fetchCounting(3)
  const text = create({ fetch: heartbeats.fetch }).then(textOf)
  await heartbeats.received
  await say('Fine')
  end()
  expect(await text).toBe('Fine')
})
