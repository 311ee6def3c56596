/** Counts the streams of a pool by what they are doing now. One visit to each stream, when the app asks. */
import { Lags } from '../delivery/lag.js'
import type { Window } from '../delivery/window.js'
import type { Stream } from '../stream/stream.js'
import type { TransportName } from '../stream/transport/transport.js'

/**
 * What a stream is doing now:
 *
 * - `opening`: its handler has not opened the response yet.
 * - `live`: it takes entries as they come.
 * - `blocked`: its socket is full, because the client or the network is slow.
 * - `parked`: it waits for the log to say where it continues.
 */
export type StreamState = 'opening' | 'live' | 'blocked' | 'parked'

export interface Survey {
  streams: number
  /** Streams now, by how they are carried and by what they are doing. */
  transports: Record<TransportName, Record<StreamState, number>>
  /** How many entries open streams are behind the tail of the log. */
  lag: { max: number; p99: number }
  lean: number
  parked: number
  blocked: number
}

export function survey(streams: Iterable<Stream>, window: Window): Survey {
  const transports = { http1: byState(), http2: byState(), lean: byState() }
  const result = { streams: 0, transports, lag: { max: 0, p99: 0 }, lean: 0, parked: 0, blocked: 0 }
  const lags = new Lags(window)
  const behind: number[] = []
  let measured = 0
  for (const stream of streams) {
    result.streams += 1
    if (stream.isLean) result.lean += 1
    if (stream.isParked) result.parked += 1
    if (stream.isBlocked) result.blocked += 1
    const state = stateOf(stream)
    transports[stream.transport][state] += 1
    // A stream that is opening or parked is not behind because its client is slow, and the pages of a run do not
    // come from the window.
    if (state === 'opening' || state === 'parked' || stream.hasPages) continue
    measured += 1
    const lag = lags.of(stream)
    if (lag > 0) behind.push(lag)
  }
  behind.sort((a, b) => b - a)
  // The nearest rank. All that are not behind rank below those that are.
  const above = measured - Math.ceil(measured * 0.99)
  result.lag = { max: behind[0] ?? 0, p99: behind[above] ?? 0 }
  return result
}

export function stateOf(stream: Stream): StreamState {
  if (!stream.isOpen) return 'opening'
  if (stream.isParked) return 'parked'
  return stream.isBlocked ? 'blocked' : 'live'
}

function byState(): Record<StreamState, number> {
  return { opening: 0, live: 0, blocked: 0, parked: 0 }
}
