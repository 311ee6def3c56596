/** The page of the browser tests. It records what its EventSource does, and tests wait for that. */

export interface Seen {
  /**
   * The event's name; for `error`, `lost` if the browser reconnects by itself and `failed` if it has
   * given up.
   */
  type: string
  data?: string
  id?: string
}

interface Recorder {
  readonly seen: Seen[]
  readonly sources: EventSource[]
  /** Opens another stream. All streams of a page share the record. */
  listen(url: string): EventSource
  /** Resolves to all events of a type once there are `count`, one of them with the id if it is given. */
  until(type: string, count: number, id: string): Promise<Seen[]>
}

declare global {
  interface Window {
    recorder: Recorder
  }
}

const TYPES = ['open', 'message', 'close', 'sse.cursor', 'sse.gap']

/** Runs in the page. */
function install(types: string[]): void {
  const seen: Seen[] = []
  const sources: EventSource[] = []
  const waiting = new Set<() => void>()
  const note = (what: Seen) => {
    seen.push(what)
    for (const check of waiting) check()
  }

  window.recorder = {
    seen,
    sources,
    listen(url) {
      const source = new EventSource(url)
      sources.push(source)
      for (const type of types) {
        source.addEventListener(type, ({ data, lastEventId }: MessageEventInit) =>
          note({ type, ...(type !== 'open' && { data, id: lastEventId }) }),
        )
      }
      source.onerror = () =>
        note({ type: source.readyState === EventSource.CLOSED ? 'failed' : 'lost' })
      return source
    },
    until(type, count, id) {
      return new Promise((resolve, reject) => {
        const found = () => seen.filter(one => one.type === type)
        // The test then reports what was seen instead of running into its time limit.
        const timer = setTimeout(() => {
          const what = seen.map(
            one => `${one.type} ${one.id ?? ''} ${one.data?.slice(0, 40) ?? ''}`,
          )
          reject(new Error(`waited for ${count} ${type} ${id}; seen:\n${what.join('\n')}`))
        }, 60_000)
        const check = () => {
          const all = found()
          if (all.length < count || (id !== '' && !all.some(one => one.id === id))) return
          clearTimeout(timer)
          waiting.delete(check)
          resolve(all)
        }
        waiting.add(check)
        check()
      })
    },
  }
}

export const HTML = `<!doctype html><title>Recorder</title><link rel="icon" href="data:,">
<script>(${install})(${JSON.stringify(TYPES)})</script>`
