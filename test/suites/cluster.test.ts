import { clusterLog } from 'koa-sse-pool/cluster'
import { eventLogSuite } from 'koa-sse-pool/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { ClusterWorker, newName, program } from '../helpers/cluster.js'

for (const serialization of ['json', 'advanced'] as const) {
  describe(`the cluster log over IPC with ${serialization} serialization`, () => {
    let worker: Awaited<ReturnType<typeof program>>
    let workers: ClusterWorker[]
    beforeAll(async () => {
      worker = await program('cluster-worker')
      const fork = () => ClusterWorker.fork(worker.file, serialization)
      workers = await Promise.all([fork(), fork()])
    })
    afterAll(async () => {
      await Promise.all(workers.map(worker => worker.kill()))
      await worker.remove()
    })

    for (const first of ['a worker', 'the primary']) {
      describe(`first opened in ${first}`, () => {
        eventLogSuite({
          test: (name, run) => test(name, run, 30_000),
          create() {
            const options = { name: newName() }
            const remote = workers.map(worker => () => worker.log(options))
            const local = () => clusterLog(options)
            const places = first === 'a worker' ? [...remote, local] : [local, ...remote]
            let opened = 0
            return {
              open: () => {
                opened += 1
                return (places[(opened - 1) % places.length] as () => ReturnType<typeof local>)()
              },
              close: () => {},
            }
          },
        })
      })
    }
  })
}
