// @ts-check
// resumable-stream as in its readme, with `redis`. Its streams are texts, so frames are built once. A reader
// resumes the stream, as after a reload, or is the first one, which gets the stream from the call that
// created it and causes no commands to Redis.
import { createServer } from 'node:http'
import { Readable } from 'node:stream'
import Koa from 'koa'
import { createClient } from 'redis'
import { createResumableStreamContext } from 'resumable-stream/generic'
import { frameOf } from '../parts/event.js'
import { settings } from '../parts/host.js'
import { hostRuns } from '../parts/runs-host.js'

const publisher = createClient({ url: settings.redis })
const subscriber = createClient({ url: settings.redis })
await Promise.all([publisher.connect(), subscriber.connect()])
const context = createResumableStreamContext({
  waitUntil: () => {},
  keyPrefix: `bench-${process.pid}`,
  publisher: /** @type {any} */ (publisher),
  subscriber: /** @type {any} */ (subscriber),
})

/** @type {Map<string, ReadableStream<string>>} */
const first = new Map()

const app = new Koa()
// Resuming may time out under load, and the client reports it.
app.silent = true
app.use(async ctx => {
  const id = String(ctx.query.id)
  const stream = settings.isFirst ? first.get(id) : await context.resumeExistingStream(id)
  if (!stream) return
  ctx.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
  ctx.body = Readable.fromWeb(/** @type {any} */ (stream))
  ctx.flushHeaders()
})

hostRuns({
  server: createServer(app.callback()),
  async start(id) {
    let wake = () => {}
    /** @type {ReadableStreamDefaultController<string>} */
    let controller
    const source = new ReadableStream({
      start(given) {
        controller = given
      },
      pull: () => wake(),
    })
    const stream = await context.createNewResumableStream(id, () => source)
    if (settings.isFirst) first.set(id, /** @type {any} */ (stream))
    else await stream?.cancel()
    const room = () =>
      new Promise(resolve => {
        wake = () => resolve(undefined)
      })
    return {
      append(event) {
        controller.enqueue(frameOf(event))
        return /** @type {number} */ (controller.desiredSize) > 0 ? undefined : room()
      },
    }
  },
})
