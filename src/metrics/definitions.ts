/**
 * The metrics: their names, types and labels, and where each value comes from. docs/metrics.md lists them, and a
 * test compares the two.
 */
import { LATENCY_BOUNDS, type Latency } from '../delivery/latency.js'
import type { PoolStats } from '../pool/stats.js'

/** What is known of a pool at the time of a scrape. */
export interface Figures {
  readonly stats: PoolStats
  readonly isReady: boolean
  readonly limits: { readonly events: number; readonly bytes: number }
  readonly latency: { readonly append: Latency; readonly read: Latency }
}

export type Labels = Record<string, string | number>

/** A value, with the suffix that a histogram adds to the metric's name. */
export interface Sample {
  readonly suffix?: string
  readonly labels?: Labels
  readonly value: number
}

export interface Definition<Source> {
  /** Without the prefix. */
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly samples: (source: Source) => readonly Sample[]
}

const one = (value: number): Sample[] => [{ value }]

const by = (label: string, values: Record<string, number>): Sample[] =>
  Object.entries(values).map(([name, value]) => ({ labels: { [label]: name }, value }))

/** Of one pool. */
export const DEFINITIONS: readonly Definition<Figures>[] = [
  gauge('clients', 'Client ids that are connected to this process.', ({ stats }) =>
    one(stats.clients),
  ),
  gauge('streams', 'Streams in the pool, by transport and state.', ({ stats }) =>
    Object.entries(stats.transports).flatMap(([transport, states]) =>
      Object.entries(states).map(([state, value]) => ({ labels: { transport, state }, value })),
    ),
  ),
  gauge('channels', 'Channels with at least one stream.', ({ stats }) => one(stats.channels)),
  gauge('polls', 'Long polls, and iterations over pool.events().', ({ stats }) => one(stats.polls)),
  gauge('waiting_requests', 'Requests that wait for a later turn of the event loop.', ({ stats }) =>
    one(stats.waiting),
  ),
  counter('streams_opened', 'Streams that have joined the pool.', ({ stats }) => one(stats.opened)),
  counter('streams_closed', 'Streams that have closed, by reason.', ({ stats }) =>
    by('reason', stats.closed),
  ),
  counter('refusals', 'Requests that got no stream, by reason.', ({ stats }) =>
    by('reason', stats.refused),
  ),
  counter('entries', 'Events that came from the log, sent by any process.', ({ stats }) =>
    one(stats.entries),
  ),
  counter('foreign_entries', 'Entries skipped because another program wrote them.', ({ stats }) =>
    one(stats.foreign),
  ),
  counter('deliveries', 'Events delivered to streams.', ({ stats }) => one(stats.deliveries)),
  counter('delivered_bytes', 'Bytes of the events delivered to streams.', ({ stats }) =>
    one(stats.bytes),
  ),
  counter('send_failures', 'Sends and removals that failed, by reason.', ({ stats }) =>
    by('reason', stats.failed),
  ),
  counter('replays', 'Readers that continued from their cursor without a gap.', ({ stats }) =>
    one(stats.replays),
  ),
  counter('gaps', 'Readers that had missed something, by reason.', ({ stats }) =>
    by('reason', stats.gapsByReason),
  ),
  gauge('lag_max_entries', 'Entries that the slowest stream is behind the tail.', ({ stats }) =>
    one(stats.lag.max),
  ),
  gauge('lag_p99_entries', 'Entries behind the tail, 99th percentile of streams.', ({ stats }) =>
    one(stats.lag.p99),
  ),
  gauge('lagging_streams', 'Streams that are behind the tail.', ({ stats }) => one(stats.lagging)),
  gauge('window_events', 'Events in the window.', ({ stats }) => one(stats.window.events)),
  gauge('window_bytes', 'Bytes of the events in the window.', ({ stats }) =>
    one(stats.window.bytes),
  ),
  gauge('window_limit_events', 'The option window.events.', ({ limits }) => one(limits.events)),
  gauge('window_limit_bytes', 'The option window.bytes.', ({ limits }) => one(limits.bytes)),
  gauge('ready', '1 if new streams can be served, else 0.', ({ isReady }) => one(Number(isReady))),
  gauge('log_up', '1 if the log is in reach, else 0.', ({ stats }) =>
    one(Number(stats.log === 'up')),
  ),
  {
    name: 'log_duration_seconds',
    type: 'histogram',
    help: 'Time from a send until the log has stored it, and until this process has read it back.',
    samples: ({ latency }) => [
      ...histogram('append', latency.append),
      ...histogram('read', latency.read),
    ],
  },
]

/** Of the process: one for all pools. In nanoseconds. */
export interface LoopDelay {
  readonly p99: number
  readonly max: number
}

export const PROCESS_DEFINITIONS: readonly Definition<LoopDelay>[] = [
  {
    name: 'event_loop_delay_p99_seconds',
    type: 'gauge',
    help: 'Delay of the event loop since the last scrape, 99th percentile.',
    samples: ({ p99 }) => one(p99 / 1e9),
  },
  {
    name: 'event_loop_delay_max_seconds',
    type: 'gauge',
    help: 'Delay of the event loop since the last scrape, longest.',
    samples: ({ max }) => one(max / 1e9),
  },
]

function gauge(name: string, help: string, samples: Definition<Figures>['samples']) {
  return { name, type: 'gauge', help, samples } as const
}

/** Prometheus wants counters to end in `_total`. */
function counter(name: string, help: string, samples: Definition<Figures>['samples']) {
  return { name: `${name}_total`, type: 'counter', help, samples } as const
}

function histogram(operation: string, { buckets, sum }: Latency): Sample[] {
  let count = 0
  const bounds = [...LATENCY_BOUNDS, '+Inf']
  const cumulative = bounds.map((le, index) => {
    count += buckets[index] as number
    return { suffix: '_bucket', labels: { operation, le }, value: count }
  })
  return [
    ...cumulative,
    { suffix: '_sum', labels: { operation }, value: sum },
    { suffix: '_count', labels: { operation }, value: count },
  ]
}
