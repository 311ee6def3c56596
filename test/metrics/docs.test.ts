/** docs/metrics.md: what it lists is what there is. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { DEFINITIONS, PROCESS_DEFINITIONS } from '../../src/metrics/definitions.js'

const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')

test('docs/metrics.md lists every metric with its type, and no other', () => {
  const rows = page.matchAll(/^\| `(\w+)` \| (counter|gauge|histogram) \|/gm)
  const exported = [...DEFINITIONS, ...PROCESS_DEFINITIONS].map(({ name, type }) => [name, type])
  expect([...rows].map(([, name, type]) => [name, type])).toEqual(exported)
})
