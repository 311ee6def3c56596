/** The tests in which the engine fails. */
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { append, ids, type LogProcess, nonce, type TestPlan } from './process.js'
import type { LogFault } from './shared-log.js'

/** Appends like an app that must not lose the event: with the same nonce until it is stored. */
async function appendUntilStored({ log }: LogProcess, frame: string): Promise<string> {
  const entry = { nonce: nonce(), target: '*', frame }
  for (;;) {
    try {
      return await log.append(entry)
    } catch (error) {
      const { code } = error as { code?: unknown }
      assert.match(String(code), /^ERR_SSE_LOG_(DOWN|UNCERTAIN)$/)
      await pause(10)
    }
  }
}

async function openTwo(open: () => Promise<LogProcess>): Promise<[LogProcess, LogProcess]> {
  const processes: [LogProcess, LogProcess] = [await open(), await open()]
  await Promise.all(processes.map(({ opened }) => opened))
  return processes
}

export const faultTests: Record<LogFault, TestPlan> = {
  cut: {
    'cut connections neither lose nor duplicate entries': async (shared, open) => {
      const processes = await openTwo(open)
      const [writer, reader] = processes
      const frames: string[] = []
      for (let round = 0; round < 5; round++) {
        const some = Array.from({ length: 50 }, (_, index) => `${round}-${index}`)
        const appended = some.map(frame => appendUntilStored(writer, frame))
        await shared.cut?.()
        const stored = await Promise.all(appended)
        frames.push(...some)
        for (const process of processes) {
          await process.until('all arrived', () => process.entries.length >= frames.length)
          const known = new Set(ids(process))
          for (const id of stored) assert.ok(known.has(id), `no reader knows the id ${id}`)
        }
      }
      assert.deepEqual(writer.entries.map(({ frame }) => frame).sort(), frames.sort())
      assert.deepEqual(ids(reader), ids(writer))
      for (const { resets } of processes) assert.deepEqual(resets, ['boot'])
      const late = await open()
      await late.opened
      assert.deepEqual(ids(late), ids(writer))
    },
  },

  flush: {
    'a log that was emptied is reported as replaced': async (shared, open) => {
      const processes = await openTwo(open)
      const [writer] = processes
      await append(writer, 'old')
      for (const process of processes) await process.has(['old'])
      await shared.flush?.()
      for (const process of processes) {
        await process.until('replaced', () => process.resets.includes('replaced'))
        assert.notEqual(process.window.length, 0, 'the window has no entry to serve as a cursor')
      }
      await append(writer, 'new')
      for (const process of processes) {
        await process.has(['new'])
        assert.deepEqual(process.resets, ['boot', 'replaced'])
      }
    },

    'a log that was emptied and written to at once is reported as replaced': async (
      shared,
      open,
    ) => {
      const processes = await openTwo(open)
      const [writer] = processes
      for (let index = 0; index < 20; index++) await append(writer, `old ${index}`)
      await shared.flush?.()
      await appendUntilStored(writer, 'new')
      for (const process of processes) {
        await process.until('replaced', () => process.resets.includes('replaced'))
        await process.has(['new'])
      }
    },
  },

  trim: {
    'a trimmed log is reported as trimmed, or continues if nothing unread was lost': async (
      shared,
      open,
    ) => {
      const processes = await openTwo(open)
      const [writer] = processes
      await append(writer, 'old')
      for (const process of processes) await process.has(['old'])
      await shared.trim?.()
      await append(writer, 'new')
      for (const process of processes) {
        await process.until('arrived', () => process.entries.at(-1)?.frame === 'new')
        const hasGoneOn = process.resets.length === 1
        await process.has(hasGoneOn ? ['old', 'new'] : ['new'])
        assert.deepEqual(process.resets, hasGoneOn ? ['boot'] : ['boot', 'trimmed'])
      }
    },

    'entries that were trimmed before a process read them are reported as trimmed': async (
      shared,
      open,
    ) => {
      const processes = await openTwo(open)
      const [writer] = processes
      for (let round = 0; round < 10; round++) {
        // Whoever is faster, the readers or the trim: nothing may be missing without a word.
        const unread = Array.from({ length: 20 }, (_, index) => `${round}-${index}`)
        await Promise.all(unread.map(frame => append(writer, frame)))
        await shared.trim?.()
        const last = await append(writer, `${round} last`)
        for (const process of processes) {
          await process.until('arrived', () => process.window.at(-1)?.id === last)
          const frames = process.entries.map(({ frame }) => frame)
          const hasAll = unread.every(frame => frames.includes(frame))
          assert.ok(
            hasAll || process.resets.includes('trimmed'),
            `a process lacks entries of round ${round} and was not told`,
          )
        }
      }
    },
  },

  stop: {
    'an engine that stops is reported as down, and as up once it is back': async (shared, open) => {
      const processes = await openTwo(open)
      const [writer] = processes
      await append(writer, 'before')
      await shared.stop?.()
      for (const process of processes) await process.until('down', () => !process.isUp)
      await assert.rejects(append(writer, 'meanwhile'), {
        code: /^ERR_SSE_LOG_(DOWN|UNCERTAIN)$/,
      })
      await assert.rejects(writer.log.barrier())
      await shared.start?.()
      for (const process of processes) await process.until('up', () => process.isUp)
      const id = await appendUntilStored(writer, 'after')
      for (const process of processes) {
        await process.until('arrived', () => process.window.at(-1)?.id === id)
      }
    },

    'a log opened before its engine starts waits for it': async (shared, open) => {
      await shared.stop?.()
      const process = await open()
      await process.until('down', () => !process.isUp)
      await assert.rejects(append(process, 'too early'), { code: 'ERR_SSE_LOG_DOWN' })
      await shared.start?.()
      await process.opened
      await process.until('up', () => process.isUp)
      await append(process, 'there')
      await process.has(['there'])
    },

    'a log can be closed while its engine is down': async (shared, open) => {
      const [process] = await openTwo(open)
      await shared.stop?.()
      await process.until('down', () => !process.isUp)
      await process.log.close()
      await shared.start?.()
    },
  },
}
