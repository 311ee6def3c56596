/**
 * All frames of the package itself. The app's events are encoded in event.ts; no other file writes
 * lines of an event stream (WHATWG HTML, 9.2.6).
 *
 * Two rules for clients that do not follow the standard:
 *
 * - The id line is the last line of its frame. Some clients store the id as soon as they have read its
 *   line, so an event that is cut off after its id would be lost.
 * - A comment or `retry` line has no blank line after it. The standard needs none, and some clients
 *   dispatch an event with empty data at each blank line.
 */
import type { GapReason } from '../lib/reasons.js'
import { Chunk } from './event.js'

/** The event that tells of a gap. */
export const GAP_EVENT = 'sse.gap'

/** The close event of readers whose route has no name for it. */
export const CLOSE_EVENT = 'close'

/**
 * The id in the close event. It becomes the browser's last event id, so its next reconnect carries
 * it and can be answered 204, which stops EventSource for good.
 */
export const END_ID = 'sse.end'

/** The first bytes. Firefox does not call a stream open before it has received one. */
export const HELLO = new Chunk(':ok\n')

/** The first bytes together with the browser's reconnect delay. */
export function withRetry({ text }: Chunk, milliseconds: number): Chunk {
  return new Chunk(text + retryFrame(milliseconds))
}

/** Sets the browser's reconnect delay. Browsers apply it at the end of the line. */
export function retryFrame(milliseconds: number): string {
  return `retry: ${milliseconds}\n`
}

/** An entry of the log on the wire: the frame that was stored, with the id before its blank line. */
export function entryFrame(id: string, frame: string): string {
  return `${frame.slice(0, -1)}id: ${id}\n\n`
}

/** The bytes of an id line beside those of the id. */
export const ID_LINE_BYTES = 'id: \n'.length

/**
 * Gives a client its cursor. The data is the time between two heartbeats in milliseconds, so that a page can
 * tell silence from a quiet stream; there is a data line in any case, because Firefox and WebKit ignore an id
 * without one.
 */
export function cursorFrame(id: string | undefined, pingInterval: number | false): Chunk {
  const data = pingInterval === false ? '' : ` ${pingInterval}`
  return new Chunk(withId(id, `event: sse.cursor\ndata:${data}\n\n`))
}

/**
 * The same for clients that show every event: without a blank line nothing is dispatched. Clients that
 * follow the standard apply the id only with the next event.
 */
export function silentCursorFrame(id: string): Chunk {
  return new Chunk(`id: ${id}\n`)
}

/** A heartbeat that no client dispatches as an event. */
export const COMMENT_HEARTBEAT = new Chunk(':\n')

/** Tells a client that it has missed something, and its new cursor: `id`, if the log has one. */
export function gapFrame(reason: GapReason, id: string | undefined): Chunk {
  return new Chunk(withId(id, `event: ${GAP_EVENT}\ndata: ${gapData(reason)}\n\n`))
}

/** The data of a gap event. */
export function gapData(reason: GapReason): string {
  return JSON.stringify({ reason })
}

/** The close event. @param dataLines as `encodeData` returns them. */
export function closeFrame(name: string, dataLines: string): string {
  return entryFrame(END_ID, `event: ${name}\n${dataLines}`)
}

/** The data lines of a close event without data. */
export const NO_DATA = 'data:\n\n'

/** A whole response body that only tells the browser to reconnect after the delay. */
export function retryLater(why: string, milliseconds: number): string {
  return `:${why}\n${retryFrame(milliseconds)}`
}

function withId(id: string | undefined, frame: string): string {
  return id === undefined ? frame : entryFrame(id, frame)
}
