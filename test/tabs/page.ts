/** The page of the tests of tabs. It records what its PoolEventSource gives it, and tests wait for that. */
import type { PoolEventSource, PoolEventSourceConstructor } from '../../src/client/index.js'
import type { PoolEventSourceOptions } from '../../src/client/options.js'

interface TabRecorder {
  /** The newest of the streams that `listen` opened. */
  events: PoolEventSource
  /** The data of all messages. */
  readonly data: string[]
  /** Each status since `listen`. */
  readonly statuses: string[]
  /** The reasons of all gaps. */
  readonly gaps: string[]
  /** What the page wrote with `console.warn`. */
  readonly warnings: string[]
  /** Each delay for which the page has set a timer. */
  readonly delays: number[]
  listen(url: string, options?: PoolEventSourceOptions): PoolEventSource
  /** Records what another client was given. */
  message(data: string): void
  gap(reason: string): void
  /** Resolves as soon as the condition holds, which is checked at each message, gap and status. */
  until(condition: (tab: TabRecorder) => boolean): Promise<void>
}

declare global {
  interface Window {
    PoolEventSource: PoolEventSourceConstructor
    tab: TabRecorder
  }
}

/** Runs in the page. */
function install(): void {
  const waiting = new Set<() => void>()
  const check = () => {
    for (const one of waiting) one()
  }
  const tab: TabRecorder = {
    events: undefined as never,
    data: [],
    statuses: [],
    gaps: [],
    warnings: [],
    delays: [],
    message(data) {
      tab.data.push(data)
      check()
    },
    gap(reason) {
      tab.gaps.push(reason)
      check()
    },
    listen(url, options) {
      const events = new window.PoolEventSource(url, options)
      tab.events = events
      events.addEventListener('message', ({ data }) => tab.message(data))
      events.addEventListener('gap', ({ reason }) => tab.gap(reason))
      events.addEventListener('status', ({ status }) => {
        tab.statuses.push(status)
        check()
      })
      return events
    },
    until(condition) {
      return new Promise((resolve, reject) => {
        // The test then reports what was seen instead of running into its time limit.
        const timer = setTimeout(() => {
          const { data, statuses, gaps } = tab
          const seen = JSON.stringify({ data: data.slice(-20), statuses, gaps })
          reject(new Error(`waited for ${condition}; seen: ${seen}`))
        }, 45_000)
        const one = () => {
          if (!condition(tab)) return
          clearTimeout(timer)
          waiting.delete(one)
          resolve()
        }
        waiting.add(one)
        one()
      })
    },
  }
  window.tab = tab
  const { setTimeout } = window
  window.setTimeout = ((run: () => void, delay = 0) => {
    tab.delays.push(delay)
    return setTimeout(run, delay)
  }) as typeof window.setTimeout
  console.warn = text => void tab.warnings.push(String(text))
}

/** The page, and what it runs when it is loaded. */
export function pageWith(run: () => void = () => {}): string {
  return `<!doctype html><title>Tab</title><link rel="icon" href="data:,">
<script>(${install})()</script><script src="/client.js"></script><script>(${run})()</script>`
}
