import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { examples } from '../../scripts/examples.js'
import { subsetOf } from '../../scripts/lock-subset.js'

const entry = (version: string, more = {}) => ({ version, dev: true, ...more })
const lock = {
  lockfileVersion: 3,
  packages: {
    '': { devDependencies: { app: '^1.0.0', tool: '^1.0.0', gone: '^1.0.0', broken: '^1.0.0' } },
    'node_modules/app': entry('1.0.0', {
      dependencies: { part: '^2.0.0' },
      optionalDependencies: { 'for-this-system': '1.0.0', 'for-another-system': '1.0.0' },
      peerDependencies: { peer: '*', 'optional-peer': '*' },
      peerDependenciesMeta: { 'optional-peer': { optional: true } },
    }),
    'node_modules/app/node_modules/part': entry('2.0.0', { dependencies: { deep: '1', app: '1' } }),
    'node_modules/broken': entry('1.0.0', { dependencies: { absent: '1.0.0' } }),
    'node_modules/deep': entry('1.0.0'),
    'node_modules/for-this-system': entry('1.0.0', { optional: true }),
    'node_modules/optional-peer': entry('1.0.0'),
    'node_modules/part': entry('1.0.0'),
    'node_modules/peer': entry('1.0.0'),
    'node_modules/tool': entry('1.0.0', { dependencies: { part: '^1.0.0' } }),
  },
}

describe('a subset of a lock file', () => {
  test('has what is wanted and what that needs, each from where Node would load it', () => {
    const { manifest, lock: subset } = subsetOf(lock, 'demo', ['app'])
    expect(manifest).toEqual({ name: 'demo', private: true, dependencies: { app: '^1.0.0' } })
    expect(Object.keys(subset.packages).sort()).toEqual([
      '',
      'node_modules/app',
      'node_modules/app/node_modules/part',
      'node_modules/deep',
      'node_modules/for-this-system',
      'node_modules/peer',
    ])
  })

  test('does not mark as a development dependency what the example runs on', () => {
    const { lock: subset } = subsetOf(lock, 'demo', ['tool'])
    expect(subset.packages['node_modules/part']).toEqual({ version: '1.0.0' })
  })

  test.each([
    ['package.json does not name', ['part'], 'package.json has no devDependency part'],
    ['is not locked', ['gone'], 'package-lock.json has no gone'],
    ['needs something that is not locked', ['broken'], 'has no absent for node_modules/broken'],
  ])('is refused for a package that %s', (_, wanted, message) => {
    expect(() => subsetOf(lock, 'demo', wanted)).toThrow(message)
  })

  test('of the repository is a small part of it for every example', () => {
    const own = JSON.parse(
      readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8'),
    )
    for (const { packages } of Object.values(examples)) {
      const count = Object.keys(subsetOf(own, 'demo', packages).lock.packages).length
      expect(count).toBeGreaterThan(packages.length)
      expect(count).toBeLessThan(130)
    }
  })
})
