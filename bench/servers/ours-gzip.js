// @ts-check
// koa-sse-pool with `compress`: each event is compressed once for all streams.
import { settings } from '../parts/host.js'

settings.route = { compress: true }
await import('./ours.js')
