/** Garbage collection, for tests of what stays in memory. */
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

/** Collects all garbage now. */
export const collect: () => void = runInNewContext('gc')

/** The megabytes that live objects take on the heap. */
export function usedMegabytes(): number {
  collect()
  return process.memoryUsage().heapUsed / 1e6
}

/**
 * Whether the object is collected within 20 collections. Each runs in a turn of its own, because reading a
 * weak reference keeps its target alive until the end of the turn.
 */
export async function isCollected(ref: WeakRef<object>): Promise<boolean> {
  for (let i = 0; i < 20; i++) {
    await turn()
    collect()
    if (ref.deref() === undefined) return true
  }
  return false
}
