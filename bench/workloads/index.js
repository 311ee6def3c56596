// @ts-check
// The workloads, one file each, in the order of the table.
import { Pair } from '../parts/pair.js'
import { broadcast } from './broadcast.js'
import { channels } from './channels.js'
import { delay } from './delay.js'
import { feed } from './feed.js'
import { heartbeat } from './heartbeat.js'
import { idle } from './idle.js'
import { latency } from './latency.js'
import { replay } from './replay.js'
import { stalled } from './stalled.js'
import { targeted } from './targeted.js'

/**
 * @typedef Plan
 * @property {number} many streams of the large workloads
 * @property {number} most streams while the delay of the event loop is measured
 * @property {number} deliveries per figure, roughly
 * @property {number} fed entries fed as fast as possible
 * @property {number} seconds of the latency measurement
 * @property {number} beats heartbeats for each stream
 * @property {number} stormy streams that reconnect at once
 * @property {number} missed entries replayed to each of them
 *
 * @typedef {(metric: string, value: number) => void} Report
 * @typedef {(pair: Pair, plan: Plan, report: Report) => Promise<void>} Run
 *
 * @typedef Workload
 * @property {Record<string, string>} rows of the table, by metric
 * @property {Partial<import('../parts/host.js').Settings>} [settings] of the server
 * @property {boolean} [isSlow] left out of a quick run
 * @property {boolean} [isLong] peers are measured in the first round only, because they are far slower
 * @property {Run} run
 */

/** @type {Record<string, Workload>} */
export const WORKLOADS = {
  ...{ broadcast, channels, targeted, feed, latency, delay },
  ...{ heartbeat, replay, idle, stalled },
}

/**
 * Runs one round of one workload. @param {string} server @param {Workload} workload
 * @param {Plan} plan @param {Report} report
 */
export function measure(server, { run, settings = {} }, plan, report) {
  return Pair.with(server, settings, pair => run(pair, plan, report))
}
