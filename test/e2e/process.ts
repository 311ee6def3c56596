/** Programs that browser tests start. None of them outlives the tests, however those end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

/**
 * Watches over a process that was started `detached`: its group is killed and its folder deleted
 * when this process ends, even by SIGKILL, after which no code of ours would run. The returned
 * function calls the watch off.
 */
export function endWithUs({ pid }: ChildProcess, folder = ''): () => void {
  // The pipe to its stdin breaks when we are gone, whatever the cause.
  const script = 'read -r _; kill -KILL -"$1"; [ -z "$2" ] || rm -rf "$2"'
  const watch = spawn('sh', ['-c', script, 'sh', String(pid), folder], {
    // Of a group of its own, as Ctrl-C in a terminal goes to ours.
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  watch.unref()
  return () => watch.kill('SIGKILL')
}

/** Ends a process that was started `detached`, and its children; resolves when it has ended. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  process.kill(-child.pid, 'SIGTERM')
  await exit
}
