import { eventLogSuite } from 'koa-sse-pool/testing'
import { describe, test } from 'vitest'
import { MemoryLog } from '../../src/log/memory.js'

describe('the memory log', () => {
  eventLogSuite({
    test,
    local: true,
    create: () => ({ open: () => new MemoryLog(), close: () => {} }),
  })
})
