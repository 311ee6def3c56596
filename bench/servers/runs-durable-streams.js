// @ts-check
// The reference server of the Durable Streams protocol, in memory. Entries are appended to its store, which
// is cheaper than by POST, and readers use `live=sse`.
import { DurableStreamTestServer } from '@durable-streams/server'
import { hostRuns } from '../parts/runs-host.js'

const streams = new DurableStreamTestServer({ port: 0, compression: false })
const url = new URL(await streams.start())
const { store } = streams
const contentType = 'application/json'
const encoder = new TextEncoder()

hostRuns({
  port: Number(url.port),
  path: '/{id}?offset=-1&live=sse',
  async start(id) {
    const path = `/${id}`
    await store.create(path, { contentType })
    return {
      append({ event, data }) {
        const bytes = encoder.encode(JSON.stringify({ event, data }))
        return store.append(path, bytes, { contentType })
      },
    }
  },
})
