/** The clients that run without a browser. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { fetchEventSource } from '@microsoft/fetch-event-source'
import { EventSource as EventSource4 } from 'eventsource'
import { createEventSource } from 'eventsource-client'
import EventSource1 from 'eventsource1'
import EventSource2 from 'eventsource2'
import { EventSource as EventSource3 } from 'eventsource3'
import { EventSource as EventSource5 } from 'eventsource5'
import { EventSource as ExtendedEventSource } from 'extended-eventsource'
import { EventSource as LaunchDarklyEventSource } from 'launchdarkly-eventsource'
import { EventSource as UndiciEventSource } from 'undici'
import { requireProgram } from '../setup/needs.js'
import type { Start } from './behaviours.js'
import { mcpClient } from './mcp.js'
import type { Client } from './play.js'
import { runClients } from './runs.js'
import { trpcClient } from './trpc.js'
import type { World } from './world.js'

interface SomeEventSource {
  readonly readyState: number | string
  addEventListener(name: string, listener: (event: MessageEvent) => void): void
  close(): void
}

const NAMES = ['message', 'sse.gap', 'close']

/** Shows what an EventSource dispatches, and says when it is closed. No event tells that in all of them. */
function watch(world: World, source: SomeEventSource): () => void {
  for (const name of NAMES) source.addEventListener(name, ({ data }) => world.show(name, data))
  // launchdarkly-eventsource throws without such a listener.
  source.addEventListener('error', () => {})
  const timer = setInterval(() => {
    if (source.readyState === 2 || source.readyState === 'closed') world.end()
  }, 20)
  return () => {
    clearInterval(timer)
    source.close()
  }
}

/** Clients that are constructed like a browser's. */
function eventSource(
  Class: new (url: string, options?: object) => unknown,
  options?: object,
): Start {
  return async world =>
    watch(world, new Class(`${world.origin}/events`, options) as SomeEventSource)
}

function fetchEventSourceWith(options: object): Start {
  return async world => {
    const controller = new AbortController()
    fetchEventSource(`${world.origin}/events`, {
      openWhenHidden: true,
      signal: controller.signal,
      onmessage: ({ event, data }) =>
        event === 'sse.cursor' || world.show(event || 'message', data),
      ...options,
    }).then(world.end, world.end)
    return () => controller.abort()
  }
}

const ALL_OF_FETCH =
  '`onopen` throws at a 204 and a 401, `onerror` throws this error again, and `onclose` throws another one'

const startEventSourceClient: Start = async world => {
  const source = createEventSource({
    url: `${world.origin}/events`,
    onMessage: ({ event = 'message', data }) => event === 'sse.cursor' || world.show(event, data),
  })
  const timer = setInterval(() => source.readyState === 'closed' && world.end(), 20)
  return () => {
    clearInterval(timer)
    source.close()
  }
}

const startPython: Start = async world => {
  const script = fileURLToPath(new URL('reader.py', import.meta.url))
  const reader = spawn(requireProgram('python3'), [script, `${world.origin}/events`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  createInterface({ input: reader.stdout }).on('line', line => {
    const event = JSON.parse(line)
    if (event === null) world.end()
    else if (event[0] !== 'sse.cursor') world.show(event[0], event[1])
  })
  return () => void reader.kill()
}

export function versionOf(name: string): string {
  const url = new URL(`../../node_modules/${name}/package.json`, import.meta.url)
  return JSON.parse(readFileSync(url, 'utf8')).version
}

export const nodeClients: readonly Client[] = [
  { name: `eventsource ${versionOf('eventsource1')}`, start: eventSource(EventSource1) },
  { name: `eventsource ${versionOf('eventsource2')}`, start: eventSource(EventSource2) },
  { name: `eventsource ${versionOf('eventsource3')}`, start: eventSource(EventSource3) },
  { name: `eventsource ${versionOf('eventsource')}`, start: eventSource(EventSource4) },
  { name: `eventsource ${versionOf('eventsource5')}`, start: eventSource(EventSource5) },
  { name: `undici ${versionOf('undici')}`, start: eventSource(UndiciEventSource) },
  {
    name: `launchdarkly-eventsource ${versionOf('launchdarkly-eventsource')}`,
    start: eventSource(LaunchDarklyEventSource),
  },
  {
    name: `extended-eventsource ${versionOf('extended-eventsource')}`,
    start: eventSource(ExtendedEventSource as never, { disableLogger: true }),
  },
  {
    name: `eventsource-client ${versionOf('eventsource-client')}`,
    start: startEventSourceClient,
  },
  {
    name: `@microsoft/fetch-event-source ${versionOf('@microsoft/fetch-event-source')}`,
    start: fetchEventSourceWith({}),
    options: {
      [ALL_OF_FETCH]: fetchEventSourceWith({
        async onopen({ status }: Response) {
          if (status === 204 || status === 401) throw new RangeError(String(status))
        },
        onclose() {
          throw new Error('the stream has ended')
        },
        onerror(error: Error) {
          if (error instanceof RangeError) throw error
        },
      }),
    },
  },
  trpcClient(`@trpc/client ${versionOf('@trpc/client')}`),
  mcpClient(`@modelcontextprotocol/sdk ${versionOf('@modelcontextprotocol/sdk')}`),
  ...runClients(versionOf),
  { name: "Python's http.client", start: startPython },
]

// @microsoft/fetch-event-source takes these from the page, also when a test has finished.
Object.assign(globalThis, { window: globalThis, document: { removeEventListener() {} } })
