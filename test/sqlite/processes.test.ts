/** Several processes on one file, some of which are killed. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sqliteLog } from 'koa-sse-pool/sqlite'
import { build } from 'tsup'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { append, start } from '../../src/testing/process.js'
import { driver, SqliteFolder } from '../helpers/sqlite.js'
import { betterSqlite } from '../setup/needs.js'

const folder = new SqliteFolder()
const app = join(folder.path, 'app.mjs')
beforeAll(async () => {
  const entry = fileURLToPath(new URL('../helpers/sqlite-process.ts', import.meta.url))
  const source = fileURLToPath(new URL('../../src', import.meta.url))
  await build({
    ...{ entry: { app: entry }, outDir: folder.path, format: 'esm', target: 'node20' },
    ...{ config: false, silent: true },
    outExtension: () => ({ js: '.mjs' }),
    // The sources of the package, so that the test needs no build.
    esbuildOptions(options) {
      options.alias = { 'koa-sse-pool/sqlite': join(source, 'sqlite/index.ts') }
    },
    noExternal: [/^koa-sse-pool/],
  })
})
afterAll(() => folder.remove())

/** A log of this process, which hears of commits and does not poll. */
async function open(path: string) {
  const process = start(sqliteLog({ path, driver, maxEntries: 1_000_000, pollMs: 3_600_000 }))
  onTestFinished(() => process.log.close())
  await process.opened
  return process
}

/** Another process, which appends numbers of its own and says which are stored. */
function writer(path: string, name: string, count = Number.POSITIVE_INFINITY) {
  const child = fork(app, [path, name, betterSqlite.folder, `${count}`], { stdio: 'inherit' })
  const stored: string[] = []
  child.on('message', (frame: string) => stored.push(frame))
  // Once all of its messages have arrived.
  const ended = once(child, 'close')
  const kill = async () => {
    child.kill('SIGKILL')
    await ended
  }
  onTestFinished(kill)
  const has = (length: number) =>
    vi.waitFor(() => expect(stored.length).toBeGreaterThanOrEqual(length), { timeout: 20_000 })
  return { name, stored, has, kill, ended }
}

/** What others have seen of a writer: all that it knows to be stored, then at most what it was about to store. */
function expectComplete(frames: readonly string[], { name, stored }: ReturnType<typeof writer>) {
  const seen = frames.filter(frame => frame.startsWith(`${name} `))
  expect(seen).toEqual(Array.from({ length: seen.length }, (_, number) => `${name} ${number}`))
  expect(seen.length - stored.length).toBeGreaterThanOrEqual(0)
  expect(seen.slice(0, stored.length)).toEqual(stored)
}

const framesOf = (process: { entries: readonly { frame: string }[] }) =>
  process.entries.map(({ frame }) => frame)

test('three processes see the same order, and lose nothing that was stored when writers are killed', async () => {
  const path = folder.newFile()
  const reader = await open(path)
  const steady = writer(path, 'steady')
  const killed: ReturnType<typeof writer>[] = []
  for (let round = 0; round < 5; round++) {
    const short = writer(path, `short${round}`)
    await short.has(20 + 37 * round)
    // In the middle of whatever it does.
    await short.kill()
    killed.push(short)
    await steady.has(steady.stored.length + 20)
  }
  await steady.kill()
  await append(reader, 'last')
  const late = await open(path)
  for (const each of [reader, late]) {
    await each.until('arrived', () => each.entries.at(-1)?.frame === 'last')
  }
  expect(framesOf(late)).toEqual(framesOf(reader))
  expect(late.entries.map(({ id }) => id)).toEqual(reader.entries.map(({ id }) => id))
  expect(reader.resets).toEqual(['boot'])
  for (const each of [...killed, steady]) expectComplete(framesOf(reader), each)
})

test('a process hears of the commits of others without a poll', async () => {
  const path = folder.newFile()
  const reader = await open(path)
  const { has, stored } = writer(path, 'a', 20)
  await has(20)
  await reader.has(stored)
})

test('an open log keeps no process from ending', async () => {
  const { stored, ended } = writer(folder.newFile(), 'a', 3)
  const [code] = await ended
  expect(code).toBe(0)
  expect(stored).toHaveLength(3)
})
