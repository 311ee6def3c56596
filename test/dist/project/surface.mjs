import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const surface = {}
for (const entry of [
  'koa-sse-pool',
  'koa-sse-pool/client',
  'koa-sse-pool/compat',
  'koa-sse-pool/cluster',
  'koa-sse-pool/inspector',
  'koa-sse-pool/metrics',
  'koa-sse-pool/nats',
  'koa-sse-pool/postgres',
  'koa-sse-pool/presence',
  'koa-sse-pool/redis',
  'koa-sse-pool/runs',
  'koa-sse-pool/sqlite',
  'koa-sse-pool/testing',
  'koa-sse-pool/tickets',
  'koa-sse-pool/tracing',
]) {
  surface[entry] = {
    imported: Object.keys(await import(entry)).sort(),
    required: Object.keys(require(entry)).sort(),
  }
}
console.log(JSON.stringify(surface))
