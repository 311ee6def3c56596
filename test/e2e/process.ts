/** Programs that browser tests start. None of them outlives the tests, however the tests end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'

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

/** The ids of the processes in which a browser runs its pages. */
export function pagesOf({ pid: browser }: ChildProcess): number[] {
  const parents = new Map<number, number>()
  const pages: number[] = []
  for (const name of readdirSync('/proc').filter(file => /^\d+$/.test(file))) {
    try {
      const [, command, parent] = /\((.*)\) \S (\d+)/.exec(read(name, 'stat')) ?? []
      parents.set(Number(name), Number(parent))
      const isPage = command === 'Web Content' || /--type=renderer\b/.test(read(name, 'cmdline'))
      if (isPage) pages.push(Number(name))
    } catch {
      // It has ended meanwhile.
    }
  }
  return pages.filter(page => {
    let at: number | undefined = page
    while (at !== undefined && at !== browser) at = parents.get(at)
    return at === browser
  })
}

/** The one process, as a list, that used most of the processor while something was done. */
export async function busiestOf(pids: number[], work: () => Promise<unknown>): Promise<number[]> {
  const before = pids.map(ticksOf)
  await work()
  const used = pids.map((pid, index) => ticksOf(pid) - (before[index] as number))
  return pids.filter((_, index) => used[index] === Math.max(...used))
}

/** What a process has used of the processor in user mode (proc(5), `stat`, field 14); 0 if it has ended. */
function ticksOf(pid: number): number {
  try {
    const [, fields = ''] = read(`${pid}`, 'stat').split(') ')
    return Number(fields.split(' ')[11])
  } catch {
    return 0
  }
}

function read(pid: string, file: string): string {
  return readFileSync(`/proc/${pid}/${file}`, 'latin1')
}
