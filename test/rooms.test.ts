/**
 * The rules of who may import whom are in biome.json and hold for `npm run lint`. Here each of them must
 * notice a violation that is planted in a copy of the source.
 */
import { spawnSync } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../', import.meta.url))

/** From the lowest room to the highest: each may import those before it. */
const ROOMS = ['lib', 'wire', 'log', 'delivery', 'stream', 'pool', 'koa']

/** Rooms that stand on some of these, and what they may import. */
const SUBPATHS: Record<string, string[]> = {
  redis: ['lib', 'log'],
  nats: ['lib', 'log'],
  postgres: ['lib', 'log'],
  sqlite: ['lib', 'log'],
  cluster: ['lib', 'log'],
  testing: ['lib', 'log'],
  tickets: ['lib', 'pool'],
  metrics: ['lib', 'delivery', 'pool'],
  tracing: ['lib', 'log', 'stream', 'pool'],
  presence: ROOMS.slice(0, -1),
  compat: ROOMS,
  runs: ROOMS,
  inspector: ROOMS,
  client: [],
}

/** A file of each room that others import. */
const SOMETHING: Record<string, string> = {
  lib: 'lib/errors.js',
  wire: 'wire/event.js',
  log: 'log/log.js',
  delivery: 'delivery/reader.js',
  stream: 'stream/stream.js',
  pool: 'pool/pool.js',
  koa: 'koa/headers.js',
  redis: 'redis/entry.js',
  nats: 'nats/entry.js',
  postgres: 'postgres/entry.js',
  sqlite: 'sqlite/errors.js',
  cluster: 'cluster/primary.js',
  testing: 'testing/process.js',
  tickets: 'tickets/options.js',
  metrics: 'metrics/definitions.js',
  tracing: 'tracing/index.js',
  presence: 'presence/roster.js',
  compat: 'compat/stream.js',
  runs: 'runs/offset.js',
  inspector: 'inspector/options.js',
  client: 'client/order.js',
}

const all = Object.keys(SOMETHING)
const mayImport = (room: string) => SUBPATHS[room] ?? ROOMS.slice(0, ROOMS.indexOf(room))

/** Who imports what it must not: every pair of rooms, and Koa. */
const violations = all.flatMap(room => {
  const forbidden = all.filter(other => other !== room && !mayImport(room).includes(other))
  const planted = forbidden.map(other => ({ room, what: other, from: `../${SOMETHING[other]}` }))
  const knowsKoa = ['koa', 'tickets', 'runs', 'inspector', 'compat'].includes(room)
  return knowsKoa ? planted : [...planted, { room, what: 'koa itself', from: 'koa' }]
})

let copy: string
let found: Map<string, string[]>

beforeAll(async () => {
  copy = await mkdtemp(join(tmpdir(), 'koa-sse-pool-rooms-'))
  await cp(join(ROOT, 'src'), join(copy, 'src'), { recursive: true })
  const {
    $schema: _,
    vcs: __,
    ...config
  } = JSON.parse(await readFile(join(ROOT, 'biome.json'), 'utf8'))
  await writeFile(join(copy, 'biome.json'), JSON.stringify(config))
  for (const [index, { room, from }] of violations.entries()) {
    await writeFile(join(copy, `src/${room}/planted-${index}.ts`), `export * from '${from}'\n`)
  }
  // A circle of types only, which a bundler would not mind.
  await writeFile(
    join(copy, 'src/lib/circle-a.ts'),
    "import type { B } from './circle-b.js'\nexport type A = B[]\n",
  )
  await writeFile(
    join(copy, 'src/lib/circle-b.ts'),
    "import type { A } from './circle-a.js'\nexport type B = A[]\n",
  )
  found = lint()
})

afterAll(() => rm(copy, { recursive: true }))

/** The rules that each file breaks, by path. */
function lint(): Map<string, string[]> {
  const biome = join(ROOT, 'node_modules/.bin/biome')
  const args = ['lint', '--reporter=json', '--max-diagnostics=none', 'src']
  const { stdout } = spawnSync(biome, args, { cwd: copy, encoding: 'utf8', maxBuffer: 2 ** 28 })
  const { diagnostics } = JSON.parse(stdout) as {
    diagnostics: { category: string; location: { path: string | { file: string } } }[]
  }
  const byFile = new Map<string, string[]>()
  for (const { category, location } of diagnostics) {
    const path = typeof location.path === 'string' ? location.path : location.path.file
    byFile.set(path, [...(byFile.get(path) ?? []), category.replace(/^lint\//, '')])
  }
  return byFile
}

describe('the linter refuses', () => {
  test.each(violations.map(({ room, what }, index) => [room, what, index] as const))(
    'an import in %s/ of %s',
    (room, _, index) => {
      expect(found.get(`src/${room}/planted-${index}.ts`)).toContain('style/noRestrictedImports')
    },
  )

  test('a circle of imports, though it is one of types only', () => {
    for (const file of ['circle-a', 'circle-b']) {
      expect(found.get(`src/lib/${file}.ts`)).toContain('suspicious/noImportCycles')
    }
  })

  test('nothing else: the source itself keeps every rule', () => {
    const innocent = [...found].filter(([path]) => !/planted|circle/.test(path))
    expect(innocent).toEqual([])
  })
})
