// @ts-check
// The targets of koa-sse-pool: ratios to a peer in the same round, and a few absolute figures.
import { markdownOf, median, short } from './table.js'

/**
 * @typedef {(metric: string, server: string) => number} At what one round measured, or NaN
 *
 * @typedef Target
 * @property {string} what
 * @property {number} [most]
 * @property {number} [least] if higher is better
 * @property {string} [to] the peer of the ratio; without it, `of` returns a figure in `unit`
 * @property {string} [unit]
 * @property {(at: At) => number} of
 */

/** @type {Record<string, string>} */
const PEERS = {
  net: 'bare `net`',
  http2: 'bare `node:http2`',
  ours: 'plain',
  nchan: 'nchan',
  'res-write': 'Koa + `res.write`',
}

/** @param {string} what @param {string} metric @param {string} peer @param {number} most @returns {Target} */
function ratio(what, metric, peer, most, server = 'ours') {
  const to = PEERS[peer] ?? peer
  return { what, most, to, of: at => at(metric, server) / at(metric, peer) }
}

/** @type {Target[]} */
export const TARGETS = [
  ratio('delivery, 1,000 streams', 'one-1000', 'net', 1.15),
  ratio('delivery, 1,000 streams', 'one-1000', 'nchan', 1.1),
  ratio('delivery, 1,000 streams', 'one-1000', 'koa-sse-stream', 0.45),
  ratio('delivery, 1,000 streams', 'one-1000', 'better-sse', 0.55),
  ratio('delivery, {many} streams', 'one-many', 'net', 1.1),
  ratio('delivery, {many} streams', 'one-many', 'nchan', 0.85),
  ratio('as fast as possible', 'feed', 'nchan', 0.5),
  {
    what: 'burst of 16 (0.6 µs if a single one costs 4)',
    most: 0.15,
    to: 'a single one',
    of: at => at('burst-16', 'ours') / at('one-1000', 'ours'),
  },
  ratio('targeted, 1,000 ids', 'send-1000', 'net', 2),
  ratio('targeted, {many} ids', 'send-many', 'net', 2),
  {
    what: 'targeted, growth from 1,000 to {many} ids',
    most: 1,
    to: 'bare `net`’s growth',
    of: at =>
      at('send-many', 'ours') /
      at('send-1000', 'ours') /
      (at('send-many', 'net') / at('send-1000', 'net')),
  },
  ratio('p50 latency, 1,000 × 10/s', 'p50', 'net', 1.15),
  ratio('idle stream, of {many}', 'rss-many', 'res-write', 1.05),
  ratio('idle stream, lean, of {many}', 'rss-many', 'res-write', 0.5, 'ours-lean'),
  ratio('idle stream, lean, of {many}', 'rss-many', 'nchan', 1, 'ours-lean'),
  ratio('connect storm, {many} streams', 'connect', 'res-write', 1.15),
  ratio('heartbeat, {many} streams', 'heartbeat', 'net', 1.1),
  {
    what: 'heartbeats to a stream written to within the interval',
    most: 0,
    unit: 'per interval',
    of: at => at('heartbeat-busy', 'ours'),
  },
  {
    what: 'event-loop delay p99, {most} streams',
    most: 20,
    unit: 'ms',
    of: at => at('delay', 'ours'),
  },
  { what: 'stalled client, 50 MB published', most: 5, unit: 'MB', of: at => at('stalled', 'ours') },
  ratio('growth from 1,000 to {many} streams', 'growth', 'net', 1),
  ...['redis', 'ioredis'].flatMap(client => ofRedis(client)),
]

/** @type {Target[]} */
export const HTTP2_TARGETS = ['h2c', 'tls'].flatMap(kind =>
  [1, 50].flatMap(perSession =>
    ['1000', 'many'].map(streams => {
      const how = `${kind === 'tls' ? 'with' : 'without'} TLS, ${perSession} per session`
      const what = `${streams === 'many' ? '{many}' : '1,000'} streams, ${how}`
      return ratio(what, `${kind}-${perSession}-${streams}`, 'http2', 1.15, 'ours-http2')
    }),
  ),
)

/** @type {Target[]} */
export const COMPRESSION_TARGETS = [
  ratio('CPU, events of 250 bytes', 'gzip-small', 'ours', 1.2, 'ours-gzip'),
  ratio('CPU, events of 1,800 bytes', 'gzip-large', 'ours', 1.2, 'ours-gzip'),
]

/** @type {Target[]} */
export const RUN_TARGETS = [
  {
    what: 'one run to 1,000 readers',
    ...{ most: 1.2, to: 'the pool’s `broadcast`' },
    of: at => at('run-fan-out', 'runs-ours') / at('run-fan-out', 'ours'),
  },
  ...[
    { file: 'runs-ours', where: 'memory' },
    { file: 'runs-ours-redis', where: 'Redis' },
  ].flatMap(({ file, where }) => [
    {
      what: `late join to 10,000 entries in ${where}, the first reader`,
      ...{ most: 5, unit: 'ms of CPU' },
      of: (/** @type {At} */ at) => at('run-join', file),
    },
    {
      what: `late join to 10,000 entries in ${where}, 40 more readers`,
      ...{ most: 5, unit: 'ms of CPU' },
      of: (/** @type {At} */ at) => at('run-join-next', file),
    },
  ]),
  ...[1, 10].map(readers => ({
    what: `commands of resumable-stream to Redis, ${readers} resumed per run at 100 entries a second`,
    ...{ least: 5, to: 'those of koa-sse-pool' },
    of: (/** @type {At} */ at) =>
      at(`run-sent-${readers}`, 'runs-resumable') / at(`run-sent-${readers}`, 'runs-ours-redis'),
  })),
]

/** @param {string} client the package that talks to Redis @returns {Target[]} */
function ofRedis(client) {
  return [
    {
      what: `fan-in from Redis through \`${client}\`, entries of 200 bytes per second of CPU`,
      ...{ least: 100, unit: 'thousand' },
      of: at => at('fan-in', client),
    },
    {
      what: `latency p50 added by Redis, \`${client}\`, 1,000 entries a second`,
      ...{ most: 1, unit: 'ms' },
      of: at => at('engine-p50', client) - at('engine-p50', 'memory'),
    },
    {
      what: `commands to Redis, \`${client}\`, {stormy} reconnects with a cursor outside the window`,
      ...{ most: 0.1, unit: 'per reconnect' },
      of: at => at('storm-unknown', client) / at('storm-streams', client),
    },
  ]
}

/**
 * @param {Target[]} targets @param {import('./table.js').Figures} figures @param {number} rounds
 * @param {boolean} isPartial leaves out targets that were not measured
 */
export function targetsOf(targets, figures, rounds, isPartial) {
  const rows = [
    ['target', 'at most, or at least', 'measured', ''],
    ['---', '--:', '--:', '---'],
  ]
  for (const { what, most, least, to, unit, of } of targets) {
    const suffix = to === undefined ? unit : `× ${to}`
    const limit = least === undefined ? `${most} ${suffix}` : `≥ ${least} ${suffix}`
    const values = Array.from({ length: rounds }, (_, round) =>
      of((metric, server) => figures.get(metric)?.get(server)?.[round] ?? Number.NaN),
    ).filter(Number.isFinite)
    if (values.length === 0 && isPartial) continue
    const value = median(values)
    const isMet = value <= (most ?? value) && value >= (least ?? value)
    const verdict = isMet ? 'met' : '**not met**'
    rows.push(
      values.length === 0
        ? [what, limit, '–', 'not measured']
        : [what, limit, short(value), verdict],
    )
  }
  return markdownOf(rows)
}
