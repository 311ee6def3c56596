// @ts-check
// Hand-written runs in Koa: the frames of each run in an array, and `res.write` for each reader. It has no
// end, limit, resumption or back-pressure, so it shows what the rest costs.
import { createServer } from 'node:http'
import Koa from 'koa'
import { frameOf } from '../parts/event.js'
import { hostRuns } from '../parts/runs-host.js'

/** @type {Map<string, { frames: string[], readers: Set<import('node:http').ServerResponse> }>} */
const runs = new Map()

const app = new Koa()
app.use(ctx => {
  const run = runs.get(String(ctx.query.id))
  if (run === undefined) return
  const { res } = ctx
  ctx.respond = false
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
  res.write(run.frames.join('') || ':ok\n\n')
  run.readers.add(res)
  res.on('close', () => run.readers.delete(res))
})

hostRuns({
  server: createServer(app.callback()),
  start(id) {
    const frames = /** @type {string[]} */ ([])
    const readers = new Set()
    runs.set(id, { frames, readers })
    return {
      append(event) {
        const frame = frameOf(event)
        frames.push(frame)
        const bytes = Buffer.from(frame)
        for (const res of readers) res.write(bytes)
      },
    }
  },
})
