/** The engine that docs/engines.md shows in full, with the test that it shows. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ClientPool, type EventLog } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test } from 'vitest'
import { importSnippet } from '../helpers/run-snippets.js'

type FileLogClass = new (options: { directory: string; maxEntries?: number }) => EventLog

describe('the engine in docs/engines.md passes the suite (fault 118)', async () => {
  await importSnippet('docs/engines.md', 'file-log.test.js')
  const { FileLog } = (await importSnippet('docs/engines.md', 'file-log.js')) as {
    FileLog: FileLogClass
  }

  test('keeps the newest entries only, and a pool that starts later resumes among them', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'file-log-'))
    const options = { directory: join(parent, 'log'), maxEntries: 3 }
    const writer = new ClientPool({ log: new FileLog(options) })
    const ids: string[] = []
    for (const text of 'abcde') ids.push(await writer.broadcast(text))
    const reader = new ClientPool({ log: new FileLog(options) })
    onTestFinished(async () => {
      await Promise.all([writer.close(), reader.close()])
      await rm(parent, { recursive: true })
    })
    const received = async (since: string, count: number) => {
      const found: unknown[] = []
      for await (const { event, data } of reader.events({}, { since })) {
        if (found.push(event === 'sse.gap' ? event : data) === count) return found
      }
      return found
    }
    expect(await received(ids[2] as string, 2)).toEqual(['d', 'e'])
    expect(await received(ids[1] as string, 1)).toEqual(['sse.gap'])
  })
})
