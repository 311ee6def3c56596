// @ts-check
// koa-sse-pool over HTTP/2.
import { settings } from '../parts/host.js'

settings.isHttp2 = true
await import('./ours.js')
