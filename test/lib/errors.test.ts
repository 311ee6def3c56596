import { readFile } from 'node:fs/promises'
import type { SseErrorCode } from 'koa-sse-pool'
import { expect, test } from 'vitest'
import { didYouMean, got } from '../../src/lib/errors.js'

/** A record, so that adding or removing a code is a type error here. */
const CODES: Record<SseErrorCode, true> = {
  ERR_SSE_CLOSED: true,
  ERR_SSE_EVENT_TOO_LARGE: true,
  ERR_SSE_LOG_DOWN: true,
  ERR_SSE_LOG_UNCERTAIN: true,
  ERR_SSE_POOL_CLOSED: true,
  ERR_SSE_RUN_ENDED: true,
  ERR_SSE_RUN_EXISTS: true,
  ERR_SSE_RUN_EXPIRED: true,
  ERR_SSE_RUN_UNKNOWN: true,
}

test.each(['README.md', 'README.zh-CN.md'])(
  '%s explains every error code and no other',
  async file => {
    const text = await readFile(new URL(`../../${file}`, import.meta.url), 'utf8')
    const rows = [...text.matchAll(/^\| `(ERR_SSE_\w+)`/gm)].map(([, code]) => code)
    expect(rows.sort()).toEqual(Object.keys(CODES).sort())
  },
)

test('a misspelt name is answered with the nearest known one', () => {
  expect(didYouMean('maxClient', ['pingInterval', 'maxClients'])).toContain('"maxClients"')
  // By habit, from other packages. Their names are too different to be found by spelling.
  expect(didYouMean('keepAlive', ['stallTimeout', 'pingInterval'])).toContain('"pingInterval"')
  expect(didYouMean('keepAlive', ['stallTimeout'])).toContain('known are')
  expect(didYouMean('xyz', ['pingInterval', 'maxClients'])).toContain('known are')
})

test('an error describes the wrong value in a few words', () => {
  const long = 'x'.repeat(10_000)
  const values = [undefined, null, [], {}, 'a', long, 1.5, new Map(), new RangeError('no')]
  expect(values.map(got)).toEqual([
    'undefined',
    'null',
    'an array',
    'an object',
    '"a"',
    'a string of 10000 characters',
    '1.5 (number)',
    'a Map',
    'an Error',
  ])
})
