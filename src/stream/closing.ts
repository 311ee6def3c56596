/**
 * How each reason ends a stream, as the client sees it and as docs/guarantees.md shows it. There is one
 * way to end a stream, `Stream.close(reason)`, and it looks here.
 */
import type { CloseReason } from '../lib/reasons.js'

/**
 * - `close event`: what waits, then the close event with the id `sse.end`, then a clean end. The browser
 *   reconnects once, is answered 204 and stays away.
 * - `quiet end`: what waits, then a clean end. The browser comes back and resumes.
 * - `immediate end`: a clean end, without what waits. The browser comes back, if it is let in.
 * - `cut`: broken off, so that `fetch` sees an error, as far as the protocol can show one. The client
 *   comes back and resumes.
 * - `destroy`: the connection is freed, whatever waits in it. The client comes back and resumes.
 * - `nothing`: there is nobody left to write to.
 */
export type Ending = 'close event' | 'quiet end' | 'immediate end' | 'cut' | 'destroy' | 'nothing'

export const ENDINGS: Record<CloseReason, Ending> = {
  end: 'close event',
  removed: 'close event',
  replaced: 'close event',
  drain: 'quiet end',
  rotated: 'quiet end',
  // Its client may no longer be allowed to receive what waits.
  expired: 'immediate end',
  error: 'cut',
  // It would wait for a clean end as it waits for everything else.
  slow: 'destroy',
  client: 'nothing',
}
