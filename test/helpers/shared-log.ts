/** One log shared by several pools of this process, as if each were a separate process. */
import { type Entry, type EventLog, type LogSink, SseError } from 'koa-sse-pool'

export function sharedLog() {
  const entries: Entry[] = []
  const sinks = new Set<LogSink>()
  /** `isDown`: appends reject. `isDeaf`: entries are stored, but no sink receives them. */
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
