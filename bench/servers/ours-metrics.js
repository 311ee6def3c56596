// @ts-check
// koa-sse-pool with its metrics on. They are read every second, fifteen times as often as usual.
import { Registry } from 'prom-client'
import { metrics } from '../../dist/metrics.js'
import { settings } from '../parts/host.js'

const register = new Registry()
settings.observe = pool => metrics(pool, { register })
setInterval(() => register.metrics(), 1000)
await import('./ours.js')
