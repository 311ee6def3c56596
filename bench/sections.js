// @ts-check
// Parts of the results with servers and a reference of their own.
import { COMPRESSION_TARGETS, HTTP2_TARGETS } from './parts/targets.js'
import { COMPRESSION_WORKLOADS } from './workloads/compression.js'
import { HTTP2_WORKLOADS } from './workloads/http2.js'
import { measure } from './workloads/index.js'

/**
 * @typedef Section
 * @property {string} name
 * @property {string} title
 * @property {string} reference the server that ratios are to
 * @property {{ file: string, title: string }[]} servers
 * @property {Record<string, import('./workloads/index.js').Workload>} workloads
 * @property {import('./parts/targets.js').Target[]} targets
 * @property {string[]} notes
 */

/** @type {Section[]} */
export const SECTIONS = [
  {
    name: 'http2',
    title: 'HTTP/2',
    reference: 'http2',
    servers: [
      { file: 'http2', title: 'bare `node:http2`' },
      { file: 'ours-http2', title: 'koa-sse-pool' },
    ],
    workloads: HTTP2_WORKLOADS,
    targets: HTTP2_TARGETS,
    notes: [
      'Bare `node:http2`: one Buffer and one `stream.write` per stream, with the core API and not the compatibility API that Koa uses.',
    ],
  },
  {
    name: 'compression',
    title: 'Compression',
    reference: 'ours',
    servers: [
      { file: 'ours', title: 'koa-sse-pool, plain' },
      { file: 'ours-gzip', title: 'koa-sse-pool, `compress`' },
      { file: 'gzip-each', title: 'Koa + gzip per client' },
    ],
    workloads: COMPRESSION_WORKLOADS,
    targets: COMPRESSION_TARGETS,
    notes: ['Events are orders in JSON, whose fields and values repeat as they do in an app.'],
  },
]

/**
 * One round of one server.
 *
 * @param {Section} section @param {string} file @param {import('./workloads/index.js').Plan} plan
 * @param {import('./workloads/index.js').Report} report
 * @param {(workload: string, error: Error) => void} fail
 */
export async function measureSection({ workloads }, file, plan, report, fail) {
  for (const [name, workload] of Object.entries(workloads)) {
    const start = performance.now()
    try {
      await measure(file, workload, plan, report)
    } catch (error) {
      fail(name, /** @type {Error} */ (error))
    }
    process.stderr.write(` ${name} ${((performance.now() - start) / 1000).toFixed(1)} s`)
  }
}
