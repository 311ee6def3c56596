import { type ExecFileException, execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { nodePath, nodes } from '../setup/needs.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const modules = join(root, 'node_modules')
let project: string

/** A user's project, in which the packed tarball is installed next to both majors of Koa. */
beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'koa-sse-pool-'))
  await cp(new URL('project', import.meta.url), project, { recursive: true })

  const installed = join(project, 'node_modules/koa-sse-pool')
  await mkdir(installed, { recursive: true })
  const { stdout: tarball } = await run('npm', [
    ...['pack', '--silent', '--ignore-scripts'],
    ...['--pack-destination', project, root],
  ])
  await run('tar', ['-xzf', tarball.trim(), '--strip-components=1', '-C', installed])
  for (const name of [
    'koa',
    'koa2',
    'eventsource-parser',
    'jose',
    '@nats-io',
    '@opentelemetry',
    '@types',
  ]) {
    await symlink(join(modules, name), join(project, 'node_modules', name))
  }
})

afterAll(() => rm(project, { recursive: true }))

describe.concurrent.each(nodes)('on Node %i', major => {
  it.each([
    ['imports', 'import.mjs'],
    ['requires', 'require.cjs'],
  ])(
    'an app that %s the package delivers an event, closes and exits by itself',
    async (_, script) => {
      await run(nodePath(major), [script])
    },
  )

  it('streams become lean, release their request, end, and let the process exit by itself', async () => {
    const { stderr } = await run(nodePath(major), ['--expose-gc', 'lean.mjs'])
    expect(stderr).toBe('')
  })
})

it('the package has the same public surface for import and require', async () => {
  const { stdout } = await run(process.execPath, ['surface.mjs'])
  const surface = JSON.parse(stdout)
  expect(surface['koa-sse-pool'].imported).toMatchInlineSnapshot(`
    [
      "ClientPool",
      "SseError",
      "clientScript",
      "closeGracefully",
      "sse",
    ]
  `)
  expect(surface['koa-sse-pool/client'].imported).toEqual(['PoolEventSource'])
  expect(surface['koa-sse-pool/compat'].imported).toEqual(['default', 'sse'])
  expect(surface['koa-sse-pool/cluster'].imported).toEqual(['clusterLog'])
  expect(surface['koa-sse-pool/inspector'].imported).toEqual(['inspector'])
  expect(surface['koa-sse-pool/presence'].imported).toEqual(['Presence'])
  expect(surface['koa-sse-pool/metrics'].imported).toEqual(['metrics'])
  expect(surface['koa-sse-pool/nats'].imported).toEqual(['natsLog'])
  expect(surface['koa-sse-pool/postgres'].imported).toEqual([
    'createRunsTableSql',
    'createTableSql',
    'postgresLog',
    'postgresRuns',
  ])
  expect(surface['koa-sse-pool/redis'].imported).toEqual(['redisLog', 'redisRuns'])
  expect(surface['koa-sse-pool/sqlite'].imported).toEqual(['sqliteLog', 'sqliteRuns'])
  expect(surface['koa-sse-pool/testing'].imported).toEqual([
    'eventLogSuite',
    'formatTarget',
    'runStoreSuite',
  ])
  expect(surface['koa-sse-pool/runs'].imported).toEqual(['Runs', 'durableStreams', 'memoryRuns'])
  expect(surface['koa-sse-pool/tickets'].imported).toEqual(['streamTickets'])
  expect(surface['koa-sse-pool/tracing'].imported).toEqual(['tracing'])
  for (const { imported, required } of Object.values<Record<string, string[]>>(surface)) {
    expect(required).toEqual(imported)
  }
})

it('the package has types that work for import and require', async () => {
  await run(process.execPath, [join(modules, 'typescript/bin/tsc'), '--pretty', 'false'])
})

async function run(file: string, args: string[]) {
  try {
    return await promisify(execFile)(file, args, { cwd: project, timeout: 240_000 })
  } catch (error) {
    const { message, stdout, signal } = error as ExecFileException
    throw new Error(`${message}\n${stdout}${signal ? `still running, ended by ${signal}` : ''}`)
  }
}
