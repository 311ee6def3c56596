/** Counts what a leak would add to: live instances, entries of private maps, timers, handles, the heap. */
import { Session } from 'node:inspector'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

export interface Measurement {
  readonly heap: number
  /** Each count by what it counts. */
  readonly counts: Readonly<Record<string, number>>
}

/** How values pass between the inspector and this code. */
const exchange: { given: unknown; taken: unknown[] } = { given: undefined, taken: [] }
Object.defineProperty(globalThis, '__soak', { value: exchange })

/** The inspector of this thread: the only way to private fields, and to all instances of a class. */
class Inspector implements Disposable {
  readonly #session = new Session()

  constructor() {
    this.#session.connect()
  }

  [Symbol.dispose](): void {
    this.#session.disconnect()
  }

  /**
   * How many direct instances each prototype has after a garbage collection. One look at the whole heap,
   * because the collection takes most of the time. Timers that were cleared do not count.
   */
  countInstances(prototypes: readonly object[]): number[] {
    const { objects } = this.#post('Runtime.queryObjects', {
      prototypeObjectId: this.#idOf(Object.prototype),
      objectGroup: GROUP,
    }) as { objects: Remote }
    exchange.given = prototypes
    const { result } = this.#post('Runtime.callFunctionOn', {
      objectId: objects.objectId,
      functionDeclaration: `function () {
        const counts = new Map(__soak.given.map(prototype => [prototype, 0]))
        for (const one of this) {
          const prototype = Object.getPrototypeOf(one)
          const count = counts.get(prototype)
          if (count !== undefined && !one._destroyed) counts.set(prototype, count + 1)
        }
        return [...counts.values()]
      }`,
      returnByValue: true,
    }) as { result: { value: number[] } }
    exchange.given = undefined
    this.#release()
    return result.value
  }

  /** The private fields of an object. */
  privatesOf(object: object): [name: string, value: unknown][] {
    const { privateProperties = [] } = this.#post('Runtime.getProperties', {
      objectId: this.#idOf(object),
      ownProperties: true,
    }) as { privateProperties?: { name: string; value?: Remote }[] }
    const fields = privateProperties.filter(({ value }) => value?.objectId !== undefined)
    exchange.taken = []
    for (const { value } of fields) {
      this.#post('Runtime.callFunctionOn', {
        objectId: value?.objectId,
        functionDeclaration: 'function () { __soak.taken.push(this) }',
      })
    }
    const { taken } = exchange
    exchange.taken = []
    this.#release()
    return fields.map(({ name }, index) => [name, taken[index]])
  }

  #idOf(object: object): string {
    exchange.given = object
    const { result } = this.#post('Runtime.evaluate', {
      expression: '__soak.given',
      objectGroup: GROUP,
    }) as { result: { objectId: string } }
    exchange.given = undefined
    return result.objectId
  }

  /** Otherwise the inspector itself would keep what it has shown. */
  #release(): void {
    this.#post('Runtime.releaseObjectGroup', { objectGroup: GROUP })
  }

  /** A session in its own thread answers before `post` returns. */
  #post(method: string, params: object): unknown {
    let answer: unknown
    let failure: Error | null = null
    this.#session.post(method, params, (error, result) => {
      failure = error
      answer = result
    })
    if (failure !== null) throw failure
    return answer
  }
}

const GROUP = 'soak'

interface Remote {
  readonly objectId?: string
}

const aTimer = setTimeout(() => {}, 0) as NodeJS.Timeout & { _idleNext: object }
const TIMER = Object.getPrototypeOf(aTimer)
/** Of a duration, which may outlive its timers: Node's own, as all that timers show of it. */
const TIMERS_LIST = Object.getPrototypeOf(aTimer._idleNext)
clearTimeout(aTimer)

interface Measured {
  /** Classes whose instances are counted, by name. */
  readonly classes: Readonly<Record<string, object>>
  /** Objects whose maps and sets are counted, also those inside them. */
  readonly roots: Readonly<Record<string, object>>
}

export function measure({ classes, roots }: Measured): Measurement {
  const counts: Record<string, number> = {}
  using inspector = new Inspector()
  const instances = inspector.countInstances([TIMER, TIMERS_LIST, ...Object.values(classes)])
  const names = Object.keys(classes).map(name => `live instances of ${name}`)
  for (const [index, name] of ['timers', 'durations of timers', ...names].entries()) {
    counts[name] = instances[index] as number
  }
  for (const [name, root] of Object.entries(roots)) {
    for (const [path, size] of sizesIn(name, root, inspector)) counts[path] = size
  }
  for (const resource of process.getActiveResourcesInfo()) {
    const name = `active resources of type ${resource}`
    counts[name] = (counts[name] ?? 0) + 1
  }
  collect()
  return { heap: process.memoryUsage().heapUsed, counts }
}

/** The sizes of all maps and sets that an object owns, by their path. */
function sizesIn(name: string, root: object, inspector: Inspector): Map<string, number> {
  const sizes = new Map<string, number>()
  const seen = new Set<object>()
  const visit = (path: string, value: unknown) => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return
    seen.add(value)
    if (value instanceof Map || value instanceof Set) sizes.set(`size of ${path}`, value.size)
    // Lists are left out: the window's has room for entries that it has evicted. The heap shows them.
    else if (!Array.isArray(value)) {
      for (const [key, { value: part }] of Object.entries(
        Object.getOwnPropertyDescriptors(value),
      )) {
        visit(`${path}.${key}`, part)
      }
      for (const [key, part] of inspector.privatesOf(value)) visit(`${path}.${key}`, part)
    }
  }
  visit(name, root)
  return sizes
}

/** Each count that is larger than it was, and the heap if it has grown by more than is allowed. */
export function growth(before: Measurement, after: Measurement, allowedBytes: number): string[] {
  const grown = Object.entries(after.counts)
    .filter(([name, count]) => count > (before.counts[name] ?? 0))
    .map(([name, count]) => `${name}: ${before.counts[name] ?? 0} -> ${count}`)
  if (after.heap - before.heap <= allowedBytes) return grown
  const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MB`
  return [...grown, `heap: ${megabytes(before.heap)} -> ${megabytes(after.heap)}`]
}
