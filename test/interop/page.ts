/** The clients that run in a page, each by the name under which the test starts it. */
import { EventSourcePolyfill } from 'event-source-polyfill'
import ReconnectingEventSource from 'reconnecting-eventsource'
import { SSE } from 'sse.js'

const URL = '/events'

let reports: Promise<unknown> = Promise.resolve()

/** Reports an event to the server of the page, in order. Without a name: that the client has ended. */
function show(name: string, data = ''): void {
  const body = JSON.stringify({ name, data })
  reports = reports.then(() => fetch('/shown', { method: 'POST', body })).catch(() => {})
}

function endWhen(hasEnded: () => boolean): void {
  const timer = setInterval(() => {
    if (!hasEnded()) return
    clearInterval(timer)
    show('')
  }, 20)
}

type Source = Pick<EventSource, 'addEventListener' | 'readyState' | 'close'>

/** Shows what an EventSource dispatches. */
function watch(source: Source, hasEnded = () => source.readyState === 2): () => void {
  for (const name of ['message', 'sse.gap', 'close']) {
    source.addEventListener(name, event => show(name, (event as MessageEvent).data))
  }
  endWhen(hasEnded)
  return () => source.close()
}

/** Puts HTML into the page. Returns what takes it out. */
function put(html: string): () => void {
  const main = document.querySelector('main') as HTMLElement
  main.innerHTML = html
  return () => main.replaceChildren()
}

async function startHtmx(attributes = ''): Promise<() => void> {
  Object.assign(window, { htmx: (await import('htmx.org')).default })
  await import('htmx.org/dist/ext/hx-sse.js')
  document.addEventListener('htmx:sse:after:message', event => {
    const { message } = (event as CustomEvent).detail
    show(message.event || 'message', message.data)
  })
  for (const end of ['htmx:sse:close', 'htmx:response:error', 'htmx:error']) {
    document.addEventListener(end, () => show(''))
  }
  const remove = put(`<div hx-sse:connect="${URL}" ${attributes}></div>`)
  return remove
}

async function startTurbo(): Promise<() => void> {
  await import('@hotwired/turbo')
  document.addEventListener('turbo:before-stream-render', event => {
    const template = (event.target as Element).querySelector('template')
    show('message', template?.content.textContent ?? '')
  })
  const remove = put(`<turbo-stream-source src="${URL}"></turbo-stream-source>`)
  const { streamSource } = document.querySelector('turbo-stream-source') as unknown as {
    streamSource: EventSource
  }
  // Turbo shows messages only, but a page can reach the EventSource.
  for (const name of ['sse.gap', 'close']) {
    streamSource.addEventListener(name, ({ data }) => show(name, data))
  }
  endWhen(() => streamSource.readyState === 2)
  return remove
}

const clients: Record<string, () => (() => void) | Promise<() => void>> = {
  EventSource: () => watch(new EventSource(URL)),
  'event-source-polyfill': () => watch(new EventSourcePolyfill(URL) as Source),
  'sse.js': () =>
    watch(
      new SSE(URL, { autoReconnect: true, reconnectDelay: 100 }) as unknown as Source,
      () => false,
    ),
  'reconnecting-eventsource': () =>
    // Its types are those of a CommonJS module, which it is not for bundlers.
    watch(
      new (ReconnectingEventSource as unknown as typeof EventSource)(URL, {
        max_retry_time: 100,
      } as object),
    ),
  htmx: () => startHtmx(),
  'htmx, hx-sse:close': () => startHtmx('hx-sse:close="close"'),
  turbo: startTurbo,
}

let stop: (() => void) | undefined

export interface InteropPage {
  start(name: string): Promise<void>
  stop(): void
}

const page: InteropPage = {
  async start(name) {
    stop = await clients[name]?.()
  },
  stop: () => stop?.(),
}

Object.assign(window, { interop: page })
