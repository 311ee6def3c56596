/** The tests of run stores in which the engine fails. */
import assert from 'node:assert/strict'
import {
  begin,
  entriesOf,
  follow,
  type RunFault,
  type RunPlan,
  repeat,
  startedWatch,
} from './runs.js'

const DOWN_OR_UNCERTAIN = { code: /^ERR_SSE_LOG_(DOWN|UNCERTAIN)$/ }

export const runFaultTests: Record<RunFault, RunPlan> = {
  cut: {
    'cut connections neither lose nor duplicate what a producer repeats': async (
      store,
      open,
      shared,
    ) => {
      await begin(store, 'run')
      const followed = follow(open(), 'run')
      const expected: string[] = []
      for (let seq = 0; seq < 100; seq++) {
        const entry = `${seq}`
        expected.push(entry)
        const producer = { id: 'p', epoch: 0, seq }
        const appended = repeat(() => store.append('run', { entries: [entry], producer }))
        if (seq % 20 === 10) await shared.cut?.()
        assert.match((await appended).outcome, /^(appended|duplicate)$/)
      }
      const last = { id: 'p', epoch: 0, seq: 100 }
      await repeat(() => store.append('run', { entries: [], ending: 'done', producer: last }))
      assert.deepEqual(await entriesOf(store, 'run'), expected)
      assert.deepEqual(await followed, expected)
    },

    'watchers are called again after their connection was cut': async (store, open, shared) => {
      await begin(store, 'run')
      const watch = await startedWatch(open(), 'run')
      for (let round = 0; round < 3; round++) {
        const { length } = watch.calls
        await shared.cut?.()
        await watch.until('called again', () => watch.calls.length > length)
      }
      await repeat(() => store.append('run', { entries: ['x'], ending: 'done' }))
      assert.deepEqual(await follow(store, 'run'), ['x'])
    },
  },

  stop: {
    'calls to an engine that is away reject, and can be repeated once it is back': async (
      store,
      open,
      shared,
    ) => {
      await begin(store, 'run', { entries: ['before'] })
      const watch = await startedWatch(open(), 'run')
      const producer = { id: 'p', epoch: 0, seq: 0 }
      const append = () => store.append('run', { entries: ['once'], producer })
      await shared.stop?.()
      await assert.rejects(append(), DOWN_OR_UNCERTAIN)
      for (const call of [
        () => store.create('other', { meta: '' }),
        () => store.renew('run'),
        () => store.delete('other'),
      ]) {
        await assert.rejects(call(), DOWN_OR_UNCERTAIN)
      }
      for (const call of [
        () => store.get('run'),
        () => store.read('run', 0, { entries: 1, length: 1 }),
      ]) {
        await assert.rejects(call(), { code: 'ERR_SSE_LOG_DOWN' })
      }
      const { length } = watch.calls
      await shared.start?.()
      assert.match((await repeat(append)).outcome, /^(appended|duplicate)$/)
      assert.equal((await append()).outcome, 'duplicate')
      assert.deepEqual(await entriesOf(store, 'run'), ['before', 'once'])
      await watch.until('called once it was back', () => watch.calls.length > length)
    },

    'a store that is opened before its engine works once that is there': async (
      _,
      open,
      shared,
    ) => {
      await shared.stop?.()
      const store = open()
      const followed = follow(store, 'run')
      await assert.rejects(store.create('run', { meta: '' }), { code: 'ERR_SSE_LOG_DOWN' })
      await shared.start?.()
      await repeat(() => store.create('run', { meta: '', entries: ['there'] }))
      await repeat(() => store.append('run', { entries: [], ending: 'done' }))
      assert.deepEqual(await followed, ['there'])
    },

    'a store can be closed while its engine is down': async (_, open, shared) => {
      const store = open()
      await begin(store, 'run')
      await startedWatch(store, 'run')
      await shared.stop?.()
      await store.close()
      await shared.start?.()
    },
  },
}
