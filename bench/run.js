// @ts-check
/**
 * Measures this package against the field. How to run it, from the root:
 *
 *     npm run bench               about ten minutes
 *     npm run bench -- --quick    within two minutes: 1,000 streams at most, memory in one round
 *     npm run bench -- --rounds=5 --only=net,ours
 *
 * It prints one Markdown table and writes it to bench/RESULTS.md. What keeps it honest:
 *
 * - Rounds are interleaved: every server once, then all again; each workload in fresh processes.
 * - A figure is the median over the rounds, with the least and the most; a ratio is the median of
 *   the ratios to bare `net` in the same round, so that a noisy minute strikes both.
 * - CPU time is the server process's own, over all its threads, and not the wall clock's.
 * - Server and client are pinned to different cores where there is `taskset`.
 * - The client checks every frame of every stream: count and order, and for targeted sends the
 *   right client. A server that fails has no figure, and the table says so.
 * - "One at a time" means that every client has an entry before the next is published.
 * - Peers are used as their readmes say, and at their best: JSON is made once wherever they allow
 *   it. See servers/, a file each.
 */
import { execSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { tableOf } from './parts/table.js'
import { isPinned } from './parts/worker.js'
import { METRICS, measure } from './parts/workloads.js'
import { isHere as nchanIsHere } from './servers/nchan.js'

const SERVERS = [
  { file: 'net', title: 'bare node `net`' },
  { file: 'ours', title: 'koa-sse-pool' },
  { file: 'nchan', title: 'nginx + nchan' },
  { file: 'res-write', title: 'Koa + `res.write`' },
  { file: 'koa-sse-stream', title: 'koa-sse-stream' },
  { file: 'better-sse', title: 'better-sse' },
  { file: 'sse-channel', title: 'sse-channel' },
  { file: 'fastify-sse', title: '@fastify/sse' },
]

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string' },
  },
})

const only = options.only?.split(',')
const servers = SERVERS.filter(
  ({ file }) => (file !== 'nchan' || nchanIsHere) && (!only || only.includes(file)),
)
const files = openFiles()
const plan = options.quick
  ? { many: 1000, most: 1000, deliveries: 20_000 }
  : {
      many: Math.min(10_000, files - 500),
      most: Math.min(20_000, files - 500),
      deliveries: 60_000,
    }

/** @type {import('./parts/table.js').Figures} */
const figures = new Map()
/** @type {Set<string>} */
const failures = new Set()
const rounds = Number(options.rounds)

for (let round = 0; round < rounds; round += 1) {
  for (const { file } of servers) {
    process.stderr.write(`round ${round + 1} of ${rounds}: ${file}\n`)
    try {
      await measure(file, plan, !options.quick || round === 0, (metric, value) => {
        const byServer = figures.get(metric) ?? new Map()
        const values = byServer.get(file) ?? new Array(rounds).fill(undefined)
        values[round] = value
        figures.set(metric, byServer.set(file, values))
      })
    } catch (error) {
      failures.add(`${file}: ${/** @type {Error} */ (error).message}`)
    }
  }
}

const results = [
  '# Results',
  '',
  `Written by \`npm run bench${options.quick ? ' -- --quick' : ''}\`. **Median** ×ratio to bare ` +
    `\`net\` (least–most) of ${rounds} interleaved rounds; less is better throughout.`,
  '',
  tableOf(figures, titles(), servers),
  '',
  ...notes().map(note => `- ${note}`),
  '',
].join('\n')
process.stdout.write(results)
if (only === undefined) writeFileSync(new URL('RESULTS.md', import.meta.url), results)

function titles() {
  const number = new Intl.NumberFormat('en')
  return Object.fromEntries(
    Object.entries(METRICS).map(([metric, title]) => [
      metric,
      title.replace('{many}', number.format(plan.many)).replace('{most}', number.format(plan.most)),
    ]),
  )
}

function notes() {
  const cores = availableParallelism()
  return [
    `Node ${process.version} on ${process.platform}, ${cores} cores (${cpus()[0]?.model.trim()}), ` +
      `${isPinned ? 'server and client pinned to one each' : 'not pinned, as there is no taskset or no second core'}; ` +
      `${files} open files allowed.`,
    ...(nchanIsHere ? [] : ['nginx with nchan was not there (Debian: libnginx-mod-nchan).']),
    'An idle event loop shows a p99 of 1 to 2 ms, the resolution of the measurement.',
    'The stalled client: the same 50 MB were published once before it came, which fills histories.',
    ...[...failures].map(failure => `Failed: ${failure}.`),
  ]
}

function openFiles() {
  try {
    // Node raises its own soft limit to the hard one.
    return Number(execSync('ulimit -Hn', { encoding: 'utf8' })) || 100_000
  } catch {
    return 1024
  }
}
