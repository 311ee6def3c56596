/** Runs and their readers for tests. */

import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import type Koa from 'koa'
import type { ClientPool, PoolOptions } from 'koa-sse-pool'
import { type RunStore, type RunStreamOptions, Runs, type RunsOptions } from 'koa-sse-pool/runs'
import { onTestFinished } from 'vitest'
import { serveApp } from './app.js'
import { testPool } from './server.js'

/** An app whose runs are read at `/runs/:id`: one process of several, if others use the same store. */
export async function serveRuns({
  pool: poolOptions,
  stream,
  ...options
}: {
  pool?: PoolOptions
  stream?: Partial<RunStreamOptions>
  store?: RunStore
} & Omit<Partial<RunsOptions>, 'pool'> = {}) {
  const pool = testPool(poolOptions) as ClientPool
  const runs = new Runs({ pool, ...options })
  onTestFinished(() => runs.close({ timeout: 0 }))
  const router = new Router()
  const readers = runs.stream({ id: ctx => ctx.params.id, ...stream })
  router.get('/runs/:id', readers)
  router.post('/runs/:id', readers)
  const served = await serveApp(bodyParser(), router.routes() as Koa.Middleware)
  return { ...served, pool, runs }
}
