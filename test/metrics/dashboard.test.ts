/** The Grafana dashboard: its structure, and that it asks for nothing that is not exported. */
import { readFileSync } from 'node:fs'
import { metrics } from 'koa-sse-pool/metrics'
import { Registry } from 'prom-client'
import { expect, onTestFinished, test } from 'vitest'
import { testPool } from '../helpers/server.js'
import { lintExpressions } from './promtool.js'

interface Panel {
  id: number
  type: string
  title: string
  description?: string
  datasource?: { type: string; uid: string }
  gridPos: { x: number; y: number; w: number; h: number }
  fieldConfig?: { defaults: { unit: string } }
  targets?: { refId: string; expr: string; legendFormat: string }[]
}

interface Variable {
  name: string
  type: string
  query: string | { query: string }
}

const path = new URL('../../docs/grafana/koa-sse-pool.json', import.meta.url)
const dashboard = JSON.parse(readFileSync(path, 'utf8')) as {
  title: string
  uid: string
  schemaVersion: number
  panels: Panel[]
  templating: { list: Variable[] }
}
const charts = dashboard.panels.filter(({ type }) => type !== 'row')
const expressions = charts.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))

/** The series of a pool: each name with its labels, as Prometheus sees them. */
async function exported() {
  const register = new Registry()
  onTestFinished(metrics(testPool(), { register }))
  const series = new Map<string, Set<string>>()
  for (const line of (await register.metrics()).split('\n')) {
    const [, name, labels = ''] = /^(\w+)(?:{(.*)})? \S+$/.exec(line) ?? []
    if (name === undefined) continue
    const known = series.get(name) ?? new Set(['job', 'instance'])
    for (const [, label] of labels.matchAll(/(\w+)="/g)) known.add(label as string)
    series.set(name, known)
  }
  return series
}

test('every metric that it queries is exported, with the labels that it uses', async () => {
  const series = await exported()
  const wrong = expressions.flatMap(expr => {
    const used = [...expr.matchAll(/(koa_sse_pool_\w+)(?:{([^}]*)})?/g)]
    const grouped = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list]) => list?.split(', '))
    return used.flatMap(([, name, selector = '']) => {
      const known = series.get(name as string)
      if (known === undefined) return [`${name} is not exported`]
      const selected = [...selector.matchAll(/(\w+)=~?"/g)].map(([, label]) => label)
      const missing = [...selected, ...grouped].filter(label => !known.has(label as string))
      return missing.map(label => `${name} has no label ${label}`)
    })
  })
  expect(wrong).toEqual([])
  expect(expressions.length).toBeGreaterThan(20)
})

test('it shows every metric that is exported', async () => {
  const shown = new Set(expressions.flatMap(expr => expr.match(/koa_sse_pool_\w+/g) ?? []))
  // The quantiles are computed from the buckets.
  const names = [...(await exported()).keys()].filter(name => !/_(sum|count)$/.test(name))
  expect(names.filter(name => !shown.has(name))).toEqual([])
})

test('only counters and buckets are given to rate(), and they always are', () => {
  for (const expr of expressions) {
    for (const [name] of expr.matchAll(/koa_sse_pool_\w+/g)) {
      const isCounter = /_(total|bucket)$/.test(name)
      expect([expr, expr.includes(`rate(${name}{`)]).toEqual([expr, isCounter])
    }
  }
})

test('Prometheus understands every expression', () => {
  const concrete = expressions.map(expr =>
    expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$(pool|job)\b/g, '.*'),
  )
  expect(concrete.filter(expr => expr.includes('$'))).toEqual([])
  expect(lintExpressions(concrete)).toBe('')
  expect(lintExpressions(['sum(rate(x[5m])'])).toContain('unclosed left parenthesis')
})

test('Grafana finds what it needs: ids, places that do not overlap, units, and its variables', () => {
  const { panels, title, uid, schemaVersion, templating } = dashboard
  expect({ title, uid }).toEqual({ title: 'koa-sse-pool', uid: 'koa-sse-pool' })
  expect(schemaVersion).toBeGreaterThanOrEqual(36)
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  const places = new Set<string>()
  for (const { gridPos } of panels) {
    expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(places.has(`${x} ${y}`)).toBe(false)
        places.add(`${x} ${y}`)
      }
    }
  }
  for (const { type, description, fieldConfig, datasource, targets } of charts) {
    expect(type).toBe('timeseries')
    expect(description).toMatch(/\.$/)
    expect(fieldConfig?.defaults.unit).toMatch(/^(short|ops|Bps|s|percentunit)$/)
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the dashboard's own variable
    expect(datasource).toEqual({ type: 'prometheus', uid: '${datasource}' })
    expect(new Set(targets?.map(({ refId }) => refId)).size).toBe(targets?.length)
    expect(targets?.every(({ legendFormat }) => legendFormat !== '')).toBe(true)
  }
  expect(templating.list.map(({ name, type }) => [name, type])).toEqual([
    ['datasource', 'datasource'],
    ['job', 'query'],
    ['pool', 'query'],
  ])
})
