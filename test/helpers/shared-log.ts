/** One log that several pools of this process share, as if each were a process of its own. */
import { type Entry, type EventLog, type LogSink, SseError } from 'koa-sse-pool'

export function sharedLog() {
  const entries: Entry[] = []
  const sinks = new Set<LogSink>()
  /** `isDeaf`: what is stored is told nobody. */
  const state = { isDown: false, isDeaf: false }
  const open = (): EventLog => {
    let own: LogSink
    return {
      async open(sink) {
        own = sink
        sinks.add(sink)
        sink.reset(entries, 'boot')
      },
      async append(entry) {
        if (state.isDown) throw new SseError('ERR_SSE_LOG_DOWN', 'The log is down')
        const stored = { ...entry, id: String(entries.length + 1) }
        entries.push(stored)
        if (!state.isDeaf) for (const sink of sinks) sink.append([stored])
        return stored.id
      },
      compare: (a, b) => Number(a) - Number(b),
      barrier: async () => String(entries.length),
      async close() {
        sinks.delete(own)
      },
    }
  }
  return { open, entries, state, sinks }
}
