/** The suite for engines must notice an engine that is wrong. */
import { type Entry, type EventLog, type LogSink, SseError } from 'koa-sse-pool'
import { eventLogSuite } from 'koa-sse-pool/testing'
import { expect, test } from 'vitest'

/** An engine in memory whose readers get entries a moment after they were stored. */
function laggingEngine(noticesTrims: boolean) {
  let entries: Entry[] = []
  let last = 0
  const readers = new Set<() => void>()
  const open = (): EventLog => {
    let sink: LogSink | undefined
    let read = 0
    const deliver = () => {
      const fresh = entries.filter(({ id }) => Number(id) > read)
      if (fresh.length === 0) return
      const isTrimmed = Number(fresh[0]?.id) > read + 1
      read = last
      if (noticesTrims && isTrimmed) sink?.reset(entries, 'trimmed')
      else sink?.append(fresh)
    }
    return {
      async open(given) {
        sink = given
        read = last
        readers.add(deliver)
        sink.reset(entries, 'boot')
      },
      async append(entry) {
        if (sink === undefined) throw new SseError('ERR_SSE_LOG_DOWN', 'closed')
        last += 1
        entries.push({ ...entry, id: `${last}` })
        setTimeout(() => {
          for (const read of readers) read()
        }, 1)
        return `${last}`
      },
      compare: (a, b) => Number(a) - Number(b),
      barrier: async () => entries.at(-1)?.id ?? null,
      async close() {
        readers.delete(deliver)
        sink = undefined
      },
    }
  }
  return {
    open,
    close: () => {},
    trim: () => {
      entries = []
    },
  }
}

function suiteOf(noticesTrims: boolean): Map<string, () => Promise<void>> {
  const tests = new Map<string, () => Promise<void>>()
  eventLogSuite({
    test: (name, run) => tests.set(name, run),
    create: () => laggingEngine(noticesTrims),
    faults: ['trim'],
  })
  return tests
}

const TRIMMED = 'entries that were trimmed before a process read them are reported as trimmed'

test('an engine that never notices a trim of entries nobody has read is found out (fault 117)', async () => {
  await expect(suiteOf(false).get(TRIMMED)?.()).rejects.toThrow('was not told')
})

test('the same engine passes when it notices (fault 117)', async () => {
  const run = suiteOf(true).get(TRIMMED)
  await run?.()
})
