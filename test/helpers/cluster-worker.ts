/** A worker of the tests' cluster: opens the logs that cluster.ts requests, and reports their calls. */
import { clusterLog } from '../../src/cluster/index.js'
import type { EventLog } from '../../src/log/log.js'
import type { Call, Report } from './cluster.js'

const logs = new Map<number, EventLog>()

process.on('message', async (call: Call) => {
  // The messages of the cluster log itself arrive here too.
  if (call.type !== 'call') return
  const { number, log } = call
  try {
    report({ type: 'result', number, value: await perform(log, call.what) })
  } catch (error) {
    const { message, code } = error as Error & { code?: string }
    report({ type: 'result', number, error: { message, code } })
  }
})

report({ type: 'ready' })

async function perform(number: number, what: Call['what']): Promise<unknown> {
  if (what.name === 'make') {
    logs.set(number, clusterLog(what.options))
    return
  }
  const log = logs.get(number) as EventLog
  if (what.name === 'append') return log.append(what.entry)
  if (what.name !== 'open') return log[what.name]()
  return log.open({
    reset: (...args) => report({ type: 'told', log: number, what: 'reset', args }),
    append: (...args) => report({ type: 'told', log: number, what: 'append', args }),
    state: (...args) => report({ type: 'told', log: number, what: 'state', args }),
    error: error => {
      const { message } = error as Error
      report({ type: 'told', log: number, what: 'error', args: [message] })
    },
  })
}

function report(report: Report): void {
  process.send?.(report)
}
