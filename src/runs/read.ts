/** Reads a run on the server: an iteration over its events. */
import type { Page } from '../delivery/pages.js'
import { SseError } from '../lib/errors.js'
import { optional, type Rule, resolve } from '../lib/rules.js'
import type { RunRecord } from '../log/run-store.js'
import { decodeFrame } from '../wire/event.js'
import { formatOffset } from './offset.js'
import { gapPage } from './page.js'
import type { RunFeed } from './run-feed.js'
import { startOf } from './run-pages.js'

/** An event of a run, as a page would receive it. */
export interface RunEvent {
  /** Its offset: pass it as `offset` to continue after this event. */
  id: string
  /** The event name; `'message'` for an event without one, `'sse.gap'` if events before this one are lost. */
  event: string
  /** Its data as text: what was appended if that was a string, otherwise its JSON. */
  data: string
}

/** Where to begin to read, and when to end. */
export interface ReadOptions {
  /** The id of the last event that was read, to continue after it. Default: from the beginning. */
  offset?: string | undefined
  /** Ends the iteration when it aborts. Default: none. */
  signal?: AbortSignal | undefined
}

/** Where a run is found, and what its readers share. */
interface Source {
  find(): Promise<RunRecord>
  feed(run: RunRecord): RunFeed
}

const RULES: Record<keyof ReadOptions, Rule> = {
  offset: {
    default: '',
    expected: 'the id of an event',
    accepts: value => typeof value === 'string',
  },
  signal: optional('an AbortSignal', value => value instanceof AbortSignal),
}

/** @throws TypeError that names the option, when one is unknown or wrong. */
export function readRun(
  id: string,
  options: ReadOptions,
  source: Source,
): AsyncIterableIterator<RunEvent> {
  const { offset, signal } = resolve('runs.read()', RULES, options) as unknown as {
    readonly offset: string
    readonly signal: AbortSignal | undefined
  }
  const left = new AbortController()
  const iteration = events(id, offset, [left.signal, ...(signal ? [signal] : [])], source)
  const leave = iteration.return.bind(iteration)
  // A generator that waits for news would not reach its `finally` before there are some.
  iteration.return = value => {
    left.abort()
    return leave(value)
  }
  return iteration
}

async function* events(
  id: string,
  offset: string,
  signals: readonly AbortSignal[],
  source: Source,
): AsyncGenerator<RunEvent, void> {
  const isAborted = () => signals.some(({ aborted }) => aborted)
  const feed = source.feed(await source.find())
  let wake = () => {}
  const stopListening = feed.listen(() => wake())
  const stop = () => wake()
  for (const signal of signals) signal.addEventListener('abort', stop)
  try {
    let { position, gap } = startOf(feed, offset)
    for (;;) {
      // Before the look: news that come during it must not be slept through.
      const news = new Promise<void>(resolve => {
        wake = resolve
      })
      if (isAborted()) return
      if (gap !== undefined) {
        yield* decoded(gapPage(gap, formatOffset(position, feed)))
        gap = undefined
      }
      const page = feed.pageAfter(position)
      if (page !== undefined) {
        if (page.after > position) gap = 'trimmed'
        position = page.after
        if (gap !== undefined) continue
        for (const event of decoded(page.as(true))) {
          if (isAborted()) return
          yield event
        }
        position = page.end
        continue
      }
      if (feed.isGone) {
        throw new SseError('ERR_SSE_RUN_EXPIRED', `The run "${id}" was deleted or has expired`, {
          status: 410,
        })
      }
      if (feed.isOver && position >= feed.record.tail) return
      await news
    }
  } finally {
    for (const signal of signals) signal.removeEventListener('abort', stop)
    stopListening()
  }
}

function* decoded(page: Page): Iterable<RunEvent> {
  for (const { id, frame } of page.events()) yield { id, ...decodeFrame(frame) }
}
