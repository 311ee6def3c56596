// @ts-check
// Runs npm scripts side by side: node scripts/parallel.js setup check
// The output of each comes in one piece when it ends. If some fail, it ends with the status of the first one.
import { spawn } from 'node:child_process'

for (const script of process.argv.slice(2)) {
  const child = spawn('npm', ['run', script], { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', bytes => output.push(bytes))
  child.on('close', status => {
    process.stdout.write(Buffer.concat(output))
    if (status !== 0) process.exitCode ||= status ?? 1
  })
}
