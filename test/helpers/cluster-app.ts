/**
 * A cluster of its own, so that a test can stop and kill its primary. Its one worker carries out the
 * commands it reads from stdin and prints the results.
 */
import cluster from 'node:cluster'
import { createInterface } from 'node:readline'
import { clusterLog } from '../../src/cluster/index.js'

const timeout = Number(process.argv[2])

if (cluster.isPrimary) {
  clusterLog()
  cluster.fork()
} else {
  const log = clusterLog({ timeout })
  // Otherwise Node ends a worker whose primary is gone. This worker ends when its stdin does.
  if (cluster.worker) cluster.worker.exitedAfterDisconnect = true
  let frames = 0
  const append = async (size = 0) => {
    frames += 1
    const frame = `${frames}`
    const appended = log.append({ nonce: frame, target: '*', frame: frame.padEnd(size) })
    // The log sends at the end of this turn.
    setImmediate(() => say(`sent ${frame}`))
    try {
      await appended
      say(`stored ${frame}`)
    } catch (error) {
      say(`${(error as { code?: string }).code} ${frame}`)
    }
  }
  createInterface(process.stdin).on('line', line => {
    if (line === 'append') append()
    // More than fits into one message.
    else if (line === 'append much') for (const size of Array(3).fill(1024 * 1024)) append(size)
    else cluster.worker?.disconnect()
  })
  log.open({
    reset: (_, reason) => say(reason),
    append: entries => say(`got ${entries.map(({ frame }) => frame.trim())}`),
    state: isUp => {
      say(isUp ? 'up' : 'down')
      if (!isUp) append()
    },
    error: error => say((error as Error).message),
  })
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
