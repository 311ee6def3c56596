/**
 * How each close reason ends a stream, as the client sees it and as docs/guarantees.md lists it. The only
 * way to end a stream, `Stream.close(reason)`, looks here.
 */
import type { CloseReason } from '../lib/reasons.js'

/**
 * - `close event`: pending events, the close event with the id `sse.end`, a clean end. The browser
 *   reconnects once, gets a 204 and stops.
 * - `quiet end`: pending events, a clean end. The browser reconnects and resumes.
 * - `immediate end`: a clean end without the pending events. The browser reconnects, if it is let in.
 * - `cut`: the response breaks off, so that `fetch` sees an error, as far as the protocol can show one.
 *   The client reconnects and resumes.
 * - `destroy`: the connection is freed with all that is still in it. The client reconnects and resumes.
 * - `nothing`: the client has left already.
 */
export type Ending = 'close event' | 'quiet end' | 'immediate end' | 'cut' | 'destroy' | 'nothing'

export const ENDINGS: Record<CloseReason, Ending> = {
  end: 'close event',
  removed: 'close event',
  replaced: 'close event',
  drain: 'quiet end',
  rotated: 'quiet end',
  // The client may no longer be allowed to receive the pending events.
  expired: 'immediate end',
  error: 'cut',
  // A clean end would wait behind everything else that the client does not read.
  slow: 'destroy',
  client: 'nothing',
}

/**
 * The same for a route with `done`. Its clients have no ids to resume from, and most of them take a clean end for
 * the end of the data even without `done`: a truncated answer would look like a complete one.
 */
export const DONE_ENDINGS: Record<CloseReason, Ending> = {
  ...ENDINGS,
  drain: 'cut',
  rotated: 'cut',
  expired: 'cut',
}
