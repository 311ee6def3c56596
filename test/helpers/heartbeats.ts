/** Heartbeats that are comments: no client shows them, so a test that waits for them reads the bytes. */
import { deferred } from './app.js'

/** A `fetch` whose response is passed on as it comes. `received` resolves once it has brought so many heartbeats. */
export function fetchCounting(heartbeats: number) {
  const enough = deferred()
  let count = 0
  const counting: typeof fetch = async (url, init) => {
    const response = await fetch(url, init)
    const counter = new TransformStream<Uint8Array, Uint8Array>({
      transform(bytes, controller) {
        count += new TextDecoder().decode(bytes).split(':\n').length - 1
        if (count >= heartbeats) enough.resolve()
        controller.enqueue(bytes)
      },
    })
    return new Response(response.body?.pipeThrough(counter) ?? null, response)
  }
  return { fetch: counting, received: enough.promise }
}
