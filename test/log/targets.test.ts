import { formatTarget } from 'koa-sse-pool/testing'
import { expect, test } from 'vitest'
import { parseTarget } from '../../src/log/log.js'

test('authors of engines can make each kind of target, and it is read as it was made (fault 118)', () => {
  const addresses = [
    { kind: 'everyone', name: '' },
    { kind: 'client', name: 'ada' },
    { kind: 'channel', name: 'news', except: 'ada' },
    { kind: 'remove', name: 'ada' },
  ] as const
  const targets = addresses.map(formatTarget)
  expect(targets).toEqual(['*', '@ada', '#news\nada', '-ada'])
  for (const [i, target] of targets.entries())
    expect(parseTarget(target)).toMatchObject(addresses[i] ?? {})
})
