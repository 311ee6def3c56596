import { memoryRuns } from 'koa-sse-pool/runs'
import { runStoreSuite } from 'koa-sse-pool/testing'
import { describe, test } from 'vitest'

describe('runs in memory', () => {
  runStoreSuite({
    test,
    local: true,
    create: () => ({ open: () => memoryRuns(), close: () => {} }),
  })
})
