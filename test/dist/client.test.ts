/** The client as pages load it. */
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'

test.each(['client.js', 'client.global.js'])(
  'dist/%s takes at most 5 KB, minified and gzipped',
  file => {
    const script = readFileSync(new URL(`../../dist/${file}`, import.meta.url))
    expect(gzipSync(script).length).toBeLessThanOrEqual(5 * 1024)
  },
)

test('importing it where there is no window does no harm', async () => {
  const { PoolEventSource } = await import('../../dist/client.js' as string)
  expect(PoolEventSource.CONNECTING).toBe(0)
})
