/** docs/operating.md: Prometheus accepts the alert rules, and they fire when they should. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ClientPool } from 'koa-sse-pool'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { DEFINITIONS, PROCESS_DEFINITIONS } from '../../src/metrics/definitions.js'
import { fencesOf, readPage } from '../helpers/snippets.js'
import { requireProgram } from '../setup/needs.js'

const page = readPage('docs/operating.md')
const fences = fencesOf('docs/operating.md', page).filter(({ language }) => language === 'yaml')
const [{ code: rules } = { code: '' }] = fences
const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name)
const names = [...DEFINITIONS, ...PROCESS_DEFINITIONS].map(({ name }) => name)

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'koa-sse-pool-alerts-'))
  writeFileSync(join(folder, 'rules.yml'), rules)
})
afterAll(() => rmSync(folder, { recursive: true }))

function promtool(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(requireProgram('promtool'), args, {
    cwd: folder,
    encoding: 'utf8',
  })
  return { status, output: stdout + stderr }
}

/** Runs the rules over these series, one value a minute. JSON is YAML too. */
function firing(series: Record<string, string>, alertname: string, minute: number) {
  const tests = [
    {
      interval: '1m',
      input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
      alert_rule_test: [{ eval_time: `${minute}m`, alertname, exp_alerts: [] }],
    },
  ]
  writeFileSync(join(folder, 'test.yml'), JSON.stringify({ rule_files: ['rules.yml'], tests }))
  // Nothing is expected to fire, so promtool fails, and prints the alert, if one does.
  const { status, output } = promtool('test', 'rules', 'test.yml')
  if (status === 0) return false
  expect(output).toContain(`alertname="${alertname}"`)
  return true
}

const LABELS = 'job="app",instance="a",pool="default"'

test('promtool accepts the alert rules', () => {
  expect(fences).toHaveLength(1)
  const { status, output } = promtool('check', 'rules', 'rules.yml')
  expect(status, output).toBe(0)
  expect(output).toContain(`SUCCESS: ${alerts.length} rules found`)
})

test('every metric in the rules is one that is exported', () => {
  const used = [...rules.matchAll(/koa_sse_pool_(\w+)/g)].map(([, name]) => name as string)
  expect(used.length).toBeGreaterThan(10)
  expect(used.filter(name => !names.includes(name.replace(/_bucket$/, '')))).toEqual([])
})

test('every metric named on the page is one that is exported', () => {
  const named = [...page.matchAll(/`(\w+_total|lag_\w+|window_\w+|log_\w+|event_loop_\w+)[`{]/g)]
  expect(named.length).toBeGreaterThan(20)
  expect(named.map(([, name]) => name as string).filter(name => !names.includes(name))).toEqual([])
})

test('the table of alerts has a row for each rule, in the same order', () => {
  const rows = [...page.matchAll(/^\| `(Sse\w+)` \|/gm)].map(([, name]) => name)
  expect(rows).toEqual(alerts)
})

test('the table of figures names every figure of pool.stats()', async () => {
  await using pool = new ClientPool()
  const [, table = ''] = page.split('| `pool.stats()` | metric |')
  const rows = table.split('\n\n')[0] as string
  expect(Object.keys(pool.stats()).filter(name => !RegExp(`\`${name}[.\`]`).test(rows))).toEqual([])
})

test('SseLogDown fires after a minute, and not for a short failover', () => {
  const down = { [`koa_sse_pool_log_up{${LABELS}}`]: '1 1 0 0 0 0' }
  expect(firing(down, 'SseLogDown', 4)).toBe(true)
  const failover = { [`koa_sse_pool_log_up{${LABELS}}`]: '1 1 0 1 1 1' }
  expect(firing(failover, 'SseLogDown', 3)).toBe(false)
})

test('SseStreamsLost fires when clients stay away, and not when a deploy moves them', () => {
  const a = `koa_sse_pool_streams{${LABELS},transport="http1",state="live"}`
  const b = a.replace('instance="a"', 'instance="b"')
  expect(firing({ [a]: '300x12 0x12', [b]: '10x24' }, 'SseStreamsLost', 19)).toBe(true)
  expect(firing({ [a]: '300x12 0x12', [b]: '10x12 310x12' }, 'SseStreamsLost', 19)).toBe(false)
})

test('SsePoolFull fires at the first refusals, for the pool that refuses', () => {
  const of = (reason: string) => `koa_sse_pool_refusals_total{${LABELS},reason="${reason}"}`
  expect(firing({ [of('full')]: '0x3 4 9' }, 'SsePoolFull', 5)).toBe(true)
  expect(firing({ [of('type')]: '0x3 4 9' }, 'SsePoolFull', 5)).toBe(false)
})

test('SseLagNearWindow needs a full window: a short one cannot lose entries yet', () => {
  const series = (lag: number, events: number) => ({
    [`koa_sse_pool_lag_max_entries{${LABELS}}`]: `${lag}x5`,
    [`koa_sse_pool_window_events{${LABELS}}`]: `${events}x5`,
    [`koa_sse_pool_window_bytes{${LABELS}}`]: '1000x5',
    [`koa_sse_pool_window_limit_events{${LABELS}}`]: '10000x5',
    [`koa_sse_pool_window_limit_bytes{${LABELS}}`]: '33554432x5',
  })
  expect(firing(series(9000, 10_000), 'SseLagNearWindow', 4)).toBe(true)
  expect(firing(series(90, 100), 'SseLagNearWindow', 4)).toBe(false)
  expect(firing(series(900, 10_000), 'SseLagNearWindow', 4)).toBe(false)
})

test('SseGaps fires for many gaps, and not for some among many replays', () => {
  const series = (gaps: number) => ({
    [`koa_sse_pool_gaps_total{${LABELS},reason="trimmed"}`]: `0+${gaps}x20`,
    [`koa_sse_pool_replays_total{${LABELS}}`]: '0+100x20',
  })
  expect(firing(series(20), 'SseGaps', 18)).toBe(true)
  expect(firing(series(2), 'SseGaps', 18)).toBe(false)
})
