// @ts-check
// What is measured, and in which order the table shows it: a file each.
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
 * @property {number} most streams under which the event loop is looked at
 * @property {number} deliveries how many a figure is made of, roughly
 * @property {number} fed entries that are fed as fast as possible
 * @property {number} seconds for which latency is looked at
 * @property {number} beats heartbeats for each stream
 * @property {number} stormy streams that come back at once
 * @property {number} missed entries that each of them gets
 *
 * @typedef {(metric: string, value: number) => void} Report
 * @typedef {(pair: Pair, plan: Plan, report: Report) => Promise<void>} Run
 *
 * @typedef Workload
 * @property {Record<string, string>} rows of the table, by metric
 * @property {Partial<import('../parts/host.js').Settings>} [settings] that the server starts with
 * @property {boolean} [isSlow] it is left out of a quick run
 * @property {boolean} [isLong] peers are measured in the first round only, being far off
 * @property {Run} run
 */

/** @type {Record<string, Workload>} */
export const WORKLOADS = {
  ...{ broadcast, channels, targeted, feed, latency, delay },
  ...{ heartbeat, replay, idle, stalled },
}

/**
 * One round of one workload. @param {string} server @param {Workload} workload
 * @param {Plan} plan @param {Report} report
 */
export function measure(server, { run, settings = {} }, plan, report) {
  return Pair.with(server, settings, pair => run(pair, plan, report))
}
