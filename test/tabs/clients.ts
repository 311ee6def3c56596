/**
 * The clients of the control table, each with the options that help it most. Runs in the page.
 */
import { fetchEventSource } from '@microsoft/fetch-event-source'
import { EventSourcePolyfill } from 'event-source-polyfill'
import { EventSource as NpmEventSource } from 'eventsource'
import { createEventSource } from 'eventsource-client'
import ReconnectingEventSource from 'reconnecting-eventsource'
import { SSE } from 'sse.js'
import { PoolEventSource } from '../../src/client/index.js'

interface Wanted {
  /** Returns the headers of the next request. Clients that take no function get the first ones only. */
  headers?: () => Record<string, string>
}

/** The server's heartbeats, in milliseconds. */
const PING_MS = 200
const GAP = 'sse.gap'

type Connect = (url: string, wanted: Wanted) => unknown

/** What an EventSource shows: messages, and gaps to a page that listens to them. */
function watch(source: Pick<EventSource, 'addEventListener'>): void {
  source.addEventListener('message', ({ data }) => window.tab.message(data))
  source.addEventListener(GAP, ({ data }) => window.tab.gap(data))
}

function take(type: string | undefined, data: string): void {
  if (type === GAP) window.tab.gap(data)
  else if (!type || type === 'message') window.tab.message(data)
}

/** A `fetch` that adds the newest headers, for clients that take one. */
function fetchWith({ headers }: Wanted): typeof fetch {
  return (input, init) => fetch(input, { ...init, headers: { ...init?.headers, ...headers?.() } })
}

export const clients: Record<string, Connect> = {
  'koa-sse-pool/client': (url, { headers }) =>
    watch(new PoolEventSource(url, { share: true, headers }) as unknown as EventSource),

  EventSource: url => watch(new EventSource(url)),

  eventsource: (url, wanted) =>
    watch(new NpmEventSource(url, { fetch: fetchWith(wanted) as never }) as EventSource),

  'event-source-polyfill': (url, { headers }) =>
    watch(
      new EventSourcePolyfill(url, {
        ...(headers && { headers: headers() }),
        heartbeatTimeout: 5 * PING_MS,
      }) as EventSource,
    ),

  '@microsoft/fetch-event-source': (url, wanted) =>
    fetchEventSource(url, {
      fetch: fetchWith(wanted),
      openWhenHidden: true,
      onmessage: ({ event, data }) => take(event, data),
    }).catch(() => {}),

  'sse.js': (url, { headers }) =>
    watch(
      new SSE(url, {
        ...(headers && { headers: headers() }),
        autoReconnect: true,
        reconnectDelay: 100,
      }) as unknown as EventSource,
    ),

  'eventsource-client': (url, wanted) =>
    createEventSource({
      url: new URL(url, location.href),
      fetch: fetchWith(wanted) as never,
      onMessage: ({ event, data }) => take(event, data),
    }),

  'reconnecting-eventsource': url =>
    // Its types are those of a CommonJS module, which it is not for bundlers.
    watch(new (ReconnectingEventSource as unknown as typeof EventSource)(url)),
}

Object.assign(globalThis, { PoolEventSource, clients })
