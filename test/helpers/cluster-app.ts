/**
 * A cluster of its own, which a test can stop and kill: one worker, which does what it reads from
 * stdin and says on stdout what comes of it.
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
  // Otherwise Node ends a worker whose primary has gone. This one ends when its stdin has, too.
  if (cluster.worker) cluster.worker.exitedAfterDisconnect = true
  let frames = 0
  const append = async (size = 0) => {
    frames += 1
    const frame = `${frames}`
    const appended = log.append({ nonce: frame, target: '*', frame: frame.padEnd(size) })
    // Sent at the end of this turn.
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
    // More than is under way at once.
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
