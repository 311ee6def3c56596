// @ts-check
/**
 * Measures this package and its peers. Run it from the root:
 *
 *     npm run bench               about thirty-five minutes; writes bench/RESULTS.md
 *     npm run bench -- --quick    under two minutes; fewer streams and rows, only printed
 *     npm run bench -- --rounds=5 --only=net,ours --workloads=feed,latency
 *     npm run bench -- --before=../old --only=before,ours --workloads=broadcast,targeted,idle
 *                                 two builds of this package, in the same rounds
 *     npm run bench -- --workloads=engines    Redis, NATS, PostgreSQL, SQLite (Node 22.13) and the cluster log
 *     npm run bench -- --workloads=runs       runs, about ten minutes; replaces that section of RESULTS.md
 *     npm run bench -- --workloads=http2,compression    the same for these two sections
 *
 * It prints one Markdown table of the figures and one of the targets. What keeps the figures honest:
 *
 * - Rounds are interleaved: every server once, then all again; each workload in fresh processes.
 * - A figure is the median over the rounds, with minimum and maximum; a ratio is the median of the
 *   ratios within each round, so that a noisy minute affects both sides. Long workloads measure peers
 *   in the first round only.
 * - CPU time is that of the server's process, over all its threads; it is not wall-clock time.
 * - Server and client are pinned to different cores if `taskset` is available.
 * - The client checks every frame of every stream: count, order, and that the stream should get it. A
 *   server that fails the check has no figure, and a note says so.
 * - "One at a time" means that every client has received an entry before the next is published.
 * - "As fast as possible" means that the client's process feeds entries through a socket and keeps 64
 *   of them unacknowledged. The feed is the same for all, except that nchan's consists of pipelined
 *   POSTs.
 * - Latency is read from one monotonic clock; no two clocks are compared.
 * - Fan-in is measured after the receiver was stopped, so that it can take in as much as it is able to.
 * - Peers are used as their readmes say, and at their best: JSON is encoded once wherever they allow
 *   it. See servers/ and workloads/, one file each.
 */
import { execSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { ENGINE_ROWS, ENGINES, measureEngine } from './engines/index.js'
import { tableOf } from './parts/table.js'
import { RUN_TARGETS, TARGETS, targetsOf } from './parts/targets.js'
import { isPinned, Skipped } from './parts/worker.js'
import { measureRuns, RUN_ROWS, RUN_SERVERS } from './runs/index.js'
import { measureSection, SECTIONS } from './sections.js'
import { isHere as nchanIsHere } from './servers/nchan.js'
import { measure, WORKLOADS } from './workloads/index.js'

/** @type {{ file: string, title: string, only?: string[] }[]} */
const SERVERS = [
  { file: 'net', title: 'bare node `net`' },
  { file: 'before', title: 'koa-sse-pool, before' },
  { file: 'ours', title: 'koa-sse-pool' },
  { file: 'ours-metrics', title: 'koa-sse-pool, metrics', only: ['broadcast'] },
  { file: 'ours-run', title: 'koa-sse-pool, one run', only: ['broadcast'] },
  { file: 'ours-lean', title: 'koa-sse-pool, lean', only: ['broadcast', 'idle'] },
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
    rounds: { type: 'string' },
    only: { type: 'string' },
    workloads: { type: 'string' },
    before: { type: 'string' },
  },
})
const rounds = Number(options.rounds ?? (options.quick ? 1 : 3))
const files = openFiles()
const plan = options.quick
  ? {
      ...{ many: 1000, most: 1000, deliveries: 40_000, fed: 320 },
      ...{ seconds: 2, beats: 2, stormy: 500, missed: 1000 },
    }
  : {
      ...{ many: Math.min(10_000, files - 500), most: Math.min(20_000, files - 500) },
      ...{ deliveries: 60_000, fed: 640, seconds: 4, beats: 3, stormy: 5000, missed: 1000 },
    }

const given = process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : []
/** Only a complete run is written to RESULTS.md. */
const isPartial = Boolean(options.quick || options.only || options.workloads || options.before)
if (options.before) process.env.BENCH_BEFORE = resolve(options.before)
const only = options.only?.split(',')
const servers = SERVERS.filter(
  ({ file }) =>
    (file !== 'nchan' || nchanIsHere) &&
    (file !== 'before' || options.before) &&
    (!only || only.includes(file)),
)
const wanted = options.workloads?.split(',')
const chosen = Object.keys(WORKLOADS).filter(name =>
  wanted ? wanted.includes(name) : !(options.quick && WORKLOADS[name]?.isSlow),
)
/** Several processes on one log; no peer offers that. */
const hasEngines =
  (wanted ? wanted.includes('engines') : !options.quick) && (!only || only.includes('ours'))
const hasRuns =
  (wanted ? wanted.includes('runs') : !options.quick) && (!only || only.includes('ours'))
const sections = SECTIONS.filter(({ name }) =>
  wanted ? wanted.includes(name) : !(options.quick || options.only),
)
const left = Object.keys(WORKLOADS).filter(name => !chosen.includes(name))
if (!hasEngines) left.push('engines')
if (!hasRuns) left.push('runs')
left.push(...SECTIONS.filter(section => !sections.includes(section)).map(({ name }) => name))
/** A complete run of sections that have their own place in RESULTS.md. */
const areOnlySections =
  wanted?.every(name => name === 'runs' || SECTIONS.some(section => section.name === name)) &&
  !(options.quick || options.only || options.before)

/** @type {import('./parts/table.js').Figures} */
const figures = new Map()
/** @type {Set<string>} */
const failures = new Set()
/** @type {Set<string>} */
const runFailures = new Set()
/** @type {Map<string, Set<string>>} */
const sectionFailures = new Map(SECTIONS.map(({ name }) => [name, new Set()]))
const RUN_NOTES = [
  'Koa with `res.write` keeps an array of frames: no end, limit, resumption or back-pressure.',
  'resumable-stream: a reader is the first one, which gets the stream from the call that created it and ' +
    'costs no commands to Redis, or it has resumed the stream. Only the producer’s memory keeps the entries, so ' +
    'they are lost with its process.',
  'The Durable Streams reference server keeps entries in memory, and they are appended by a call and not by ' +
    'POST. It sends a control event after each batch.',
  'Redis runs on the client’s core with `appendonly yes`, and its CPU time is not part of the rows that do not ' +
    'name it. koa-sse-pool stores entries in Redis together every 50 ms, hence the latency.',
]

for (let round = 0; round < rounds; round += 1) {
  if (chosen.length > 0) for (const server of servers) await measureOnce(server, round)
  if (hasEngines) for (const engine of ENGINES) await measureEngineOnce(engine, round)
  if (hasRuns) for (const server of RUN_SERVERS) await measureRunsOnce(server, round)
  for (const section of sections) {
    for (const { file } of section.servers) await measureSectionOnce(section, file, round)
  }
}

const resultsFile = new URL('RESULTS.md', import.meta.url)
const results = [
  '# Results',
  '',
  `From \`${['npm run bench', ...given].join(' ')}\`. **Median** ×ratio to bare \`net\` (least–most) of ${rounds} ` +
    'interleaved rounds; lower is better in every row.',
  '',
  ...(chosen.length > 0 ? [tableOf(figures, titles(), servers), ''] : []),
  ...(hasEngines ? engineResults() : []),
  ...sections.flatMap(section => sectionResults(section)),
  ...(hasRuns ? runResults() : []),
  '## Targets',
  '',
  'Targets of koa-sse-pool. A ratio is the median of the ratios within each round.',
  '',
  sized(targetsOf(TARGETS, figures, rounds, isPartial)),
  '',
  ...notes().map(note => `- ${note}`),
  '',
].join('\n')
process.stdout.write(results)
if (!isPartial) writeFileSync(resultsFile, results)
else if (areOnlySections) {
  for (const section of sections) replaceSection(section.title, sectionResults(section))
  if (hasRuns) replaceSection('Runs', runResults())
}

/** @param {SERVERS[number]} server @param {number} round */
async function measureOnce({ file, only: few = chosen }, round) {
  process.stderr.write(`round ${round + 1} of ${rounds}: ${file}`)
  for (const name of chosen) {
    const workload = WORKLOADS[name]
    const isDone = workload?.isLong && round > 0 && file !== 'net' && file !== 'ours'
    if (workload === undefined || isDone || !few.includes(name)) continue
    const start = performance.now()
    try {
      await measure(file, workload, plan, (metric, value) => keep(metric, file, round, value))
    } catch (error) {
      failures.add(`${file}, ${name}: ${/** @type {Error} */ (error).message}`)
      if (error instanceof Skipped) break
    }
    process.stderr.write(` ${name} ${((performance.now() - start) / 1000).toFixed(1)} s`)
  }
  process.stderr.write('\n')
}

/** @param {typeof ENGINES[number]} engine @param {number} round */
async function measureEngineOnce(engine, round) {
  process.stderr.write(`round ${round + 1} of ${rounds}: engines, ${engine.file}\n`)
  try {
    await measureEngine(engine, plan, (metric, value) => keep(metric, engine.file, round, value))
  } catch (error) {
    failures.add(`engines, ${engine.file}: ${/** @type {Error} */ (error).message}`)
  }
}

/** @param {typeof RUN_SERVERS[number]} server @param {number} round */
async function measureRunsOnce(server, round) {
  const { file } = server
  process.stderr.write(`round ${round + 1} of ${rounds}: runs, ${file}`)
  const fail = (/** @type {string} */ workload, /** @type {Error} */ error) =>
    runFailures.add(`${file}, ${workload}: ${error.message}`)
  try {
    await measureRuns(server, (metric, value) => keep(metric, file, round, value), fail)
  } catch (error) {
    fail('all', /** @type {Error} */ (error))
  }
  process.stderr.write('\n')
}

function runResults() {
  const rows = Object.fromEntries(
    Object.entries(RUN_ROWS).map(([metric, title]) => [metric, sized(title)]),
  )
  return [
    '## Runs',
    '',
    `**Median** ×ratio to Koa with \`res.write\` (least–most) of ${rounds} interleaved rounds. Lower is better, ` +
      'except where a row says otherwise. CPU is that of the one process that has producers and readers.',
    '',
    tableOf(figures, rows, RUN_SERVERS, 'runs-by-hand'),
    '',
    targetsOf(RUN_TARGETS, figures, rounds, isPartial),
    '',
    ...RUN_NOTES.map(note => `- ${note}`),
    `- ${machine()}`,
    ...[...runFailures].map(failure => `- Not measured: ${failure}.`),
    '',
  ]
}

/** @param {import('./sections.js').Section} section @param {string} file @param {number} round */
async function measureSectionOnce(section, file, round) {
  process.stderr.write(`round ${round + 1} of ${rounds}: ${section.name}, ${file}`)
  await measureSection(
    section,
    file,
    plan,
    (metric, value) => keep(metric, file, round, value),
    (workload, error) =>
      sectionFailures.get(section.name)?.add(`${file}, ${workload}: ${error.message}`),
  )
  process.stderr.write('\n')
}

/** @param {import('./sections.js').Section} section */
function sectionResults({ name, title, reference, servers, workloads, targets, notes }) {
  const rows = Object.values(workloads).flatMap(workload => Object.entries(workload.rows))
  const sizedRows = Object.fromEntries(rows.map(([metric, text]) => [metric, sized(text)]))
  const base = servers.find(({ file }) => file === reference)?.title
  return [
    `## ${title}`,
    '',
    `**Median** ×ratio to ${base} (least–most) of ${rounds} interleaved rounds. Lower is better.`,
    '',
    tableOf(figures, sizedRows, servers, reference),
    '',
    sized(targetsOf(targets, figures, rounds, isPartial)),
    '',
    ...notes.map(note => `- ${note}`),
    `- ${machine()}`,
    ...[...(sectionFailures.get(name) ?? [])].map(failure => `- Not measured: ${failure}.`),
    '',
  ]
}

/**
 * Leaves the rest of RESULTS.md as an earlier complete run wrote it. A new section goes before the targets.
 *
 * @param {string} title @param {string[]} lines
 */
function replaceSection(title, lines) {
  const before = readFileSync(resultsFile, 'utf8')
  const start = before.indexOf(`## ${title}\n`)
  const from = start === -1 ? before.indexOf('## Targets\n') : start
  const end = start === -1 ? from : before.indexOf('\n## ', from) + 1
  writeFileSync(resultsFile, `${before.slice(0, from)}${lines.join('\n')}\n${before.slice(end)}`)
}

function engineResults() {
  const rows = Object.entries(ENGINE_ROWS).map(([metric, title]) => [metric, sized(title)])
  return [
    '## Engines',
    '',
    'Two processes of koa-sse-pool on one log. Higher is better for fan-in, lower for all other rows.',
    '',
    tableOf(figures, Object.fromEntries(rows), ENGINES),
    '',
  ]
}

/** @param {string} metric @param {string} server @param {number} round @param {number} value */
function keep(metric, server, round, value) {
  const byServer = figures.get(metric) ?? new Map()
  const values = byServer.get(server) ?? new Array(rounds).fill(undefined)
  values[round] = value
  figures.set(metric, byServer.set(server, values))
}

function titles() {
  const rows = Object.values(WORKLOADS).flatMap(workload => Object.entries(workload.rows))
  return Object.fromEntries(rows.map(([metric, title]) => [metric, sized(title)]))
}

/** @param {string} text with names of sizes, such as {many} */
function sized(text) {
  const number = new Intl.NumberFormat('en')
  const sizes = /** @type {Record<string, number>} */ (plan)
  return text.replaceAll(/\{(\w+)\}/g, (_, name) => number.format(sizes[name] ?? Number.NaN))
}

function machine() {
  return (
    `Node ${process.version} on ${process.platform}, ${availableParallelism()} cores (${cpus()[0]?.model.trim()}), ` +
    `${isPinned ? 'server and client pinned to one each' : 'not pinned, because taskset or a second core is missing'}; ` +
    `${files} open files allowed.`
  )
}

function notes() {
  return [
    machine(),
    ...(nchanIsHere ? [] : ['nginx with nchan was not installed (Debian: libnginx-mod-nchan).']),
    ...(left.length === 0 ? [] : [`Left out of this run: ${left.join(', ')}.`]),
    'An idle event loop has a p99 of 1 to 2 ms, which is the resolution of the measurement.',
    'Targeted: bare `net` frames the event, looks up the socket, and calls `socket.write` once.',
    'Stalled client: the same 50 MB were published once before it connected, so that histories were full.',
    ...[...failures].map(failure => `Not measured: ${failure}.`),
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
