/** Programs that browser tests start. None of them outlives the tests, however the tests end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

/**
 * Kills the group of a process that was started `detached`, and deletes its folder, when this process
 * ends. That works even after SIGKILL, when none of our code runs. The returned function cancels it.
 */
export function endWithUs({ pid }: ChildProcess, folder = ''): () => void {
  // Its stdin is a pipe that breaks when this process ends, for whatever reason.
  const script = 'read -r _; kill -KILL -"$1"; [ -z "$2" ] || rm -rf "$2"'
  const watch = spawn('sh', ['-c', script, 'sh', String(pid), folder], {
    // In its own group, because Ctrl-C in a terminal ends ours.
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
