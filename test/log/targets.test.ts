import { formatTarget } from 'koa-sse-pool/testing'
import { expect, test } from 'vitest'
import { isClientId } from '../../src/lib/names.js'
import { parseTarget } from '../../src/log/log.js'

test('authors of engines can make each kind of target, and it is read as it was made (fault 118)', () => {
  const addresses = [
    { kind: 'everyone', name: '' },
    { kind: 'client', name: 'ada' },
    { kind: 'channel', name: 'news', except: 'ada' },
    { kind: 'remove', name: 'ada' },
    { kind: 'everyone', name: '', except: ['ada', 'bob'] },
    { kind: 'channel', name: 'news', also: ['sports', 'weather'], except: 'ada' },
    { kind: 'client', name: 'ada', until: 1_700_000_000_000, volatile: true },
  ] as const
  const targets = addresses.map(formatTarget)
  expect(targets).toEqual([
    ...['*', '@ada', '#news\nada', '-ada', '*\nada\nbob'],
    ...['#news\nada\n\t#sports\n\t#weather', '@ada\n\t<1700000000000\n\t~'],
  ])
  for (const [i, target] of targets.entries())
    expect(parseTarget(target)).toMatchObject(addresses[i] ?? {})
})

test('a property that only a newer version knows, or that makes no sense, is ignored', () => {
  for (const line of [
    '\t',
    '\t?x',
    '\t<',
    '\t<soon',
    '\t<-1',
    '\t<1234567890123456',
    '\t#',
    '\t#news',
    '\t~x',
  ]) {
    expect(parseTarget(`#news\n${line}`)).toEqual({ kind: 'channel', name: 'news' })
  }
  expect(parseTarget('@ada\n\t#news')).toEqual({ kind: 'client', name: 'ada' })
  const twice = parseTarget('#news\n\t#sports\n\t#sports')
  expect(twice).toEqual({ kind: 'channel', name: 'news', also: ['sports'] })
})

test('versions that know one exception at most read one that no client has', () => {
  for (const address of [
    { kind: 'everyone', name: '', except: ['ada', 'bob'] },
    { kind: 'channel', name: 'news', also: ['sports'], except: 'ada' },
    { kind: 'client', name: 'ada', until: 1_700_000_000_000 },
    { kind: 'everyone', name: '', volatile: true },
  ] as const) {
    const [, first, exception] = /^(.[^\n]*)\n(.*)$/s.exec(formatTarget(address)) ?? []
    expect(first).toBe(formatTarget({ kind: address.kind, name: address.name }))
    expect(isClientId(exception)).toBe(false)
  }
})
