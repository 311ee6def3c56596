/**
 * Every frame that the package writes on its own behalf. The app's events are encoded in event.ts;
 * nothing else spells a line of an event stream (WHATWG HTML, 9.2.6).
 */
import type { GapReason } from '../lib/reasons.js'
import { Chunk } from './event.js'

/**
 * The id in the close event. It becomes the browser's last event id, so its next reconnect carries
 * it and can be answered 204, which stops EventSource for good.
 */
export const END_ID = 'sse.end'

/** The first bytes. Firefox does not call a stream open before it has received one. */
export const HELLO = new Chunk(':ok\n\n')

/** The first bytes, together with the delay after which the browser shall reconnect. */
export function withRetry({ text }: Chunk, milliseconds: number): Chunk {
  return new Chunk(text.replace(/\n$/, retryFrame(milliseconds)))
}

/** The delay in milliseconds after which the browser shall reconnect. */
export function retryFrame(milliseconds: number): string {
  return `retry: ${milliseconds}\n\n`
}

/** What an entry of the log is on the wire: its id, then the frame that was stored. */
export function entryFrame(id: string, frame: string): string {
  return `id: ${id}\n${frame}`
}

/** What the id line adds to the length of an id. */
export const ID_LINE_BYTES = entryFrame('', '').length

/** Tells a stream how far it has got. With a data line, as Firefox and WebKit ignore an id without one. */
export function cursorFrame(id: string | undefined): Chunk {
  return new Chunk(`event: sse.cursor\n${idLine(id)}data:\n\n`)
}

/**
 * The same for clients that would show every event: an id without data is no event to them. Firefox
 * and WebKit ignore it.
 */
export function silentCursorFrame(id: string): Chunk {
  return new Chunk(`id: ${id}\n\n`)
}

/** A heartbeat that no client shows. */
export const COMMENT_HEARTBEAT = new Chunk(':\n\n')

/** Tells a stream that it has missed something, and where it goes on: at `id`, if the log has one. */
export function gapFrame(reason: GapReason, id: string | undefined): Chunk {
  return new Chunk(`event: sse.gap\n${idLine(id)}data: ${gapData(reason)}\n\n`)
}

/** The data of a gap event. */
export function gapData(reason: GapReason): string {
  return JSON.stringify({ reason })
}

/** The close event. @param dataLines as `encodeData` makes them. */
export function closeFrame(name: string, dataLines: string): string {
  return `event: ${name}\nid: ${END_ID}\n${dataLines}`
}

/** The data lines of a close event that says nothing. */
export const NO_DATA = 'data:\n\n'

/** A whole response body: nothing now, come back after so many milliseconds. */
export function comeBackLater(why: string, milliseconds: number): string {
  return `:${why}\n${retryFrame(milliseconds)}`
}

function idLine(id: string | undefined): string {
  return id === undefined ? '' : `id: ${id}\n`
}
