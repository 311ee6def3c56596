/**
 * The figures of a pool for Prometheus. Nothing is counted twice or on the way of an event: each scrape reads what
 * the pool has counted anyway, and visits every stream once.
 *
 * @module koa-sse-pool/metrics
 */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as turn } from 'node:timers/promises'
import { got } from '../lib/errors.js'
import { isFunction, isRecord, type Rule, resolve } from '../lib/rules.js'
import { hasHub, hubOf } from '../pool/hub.js'
import type { ClientPool } from '../pool/pool.js'
import {
  DEFINITIONS,
  type Definition,
  type Figures,
  type Labels,
  type LoopDelay,
  PROCESS_DEFINITIONS,
  type Sample,
} from './definitions.js'

/**
 * As much as is used of a `Registry` of [prom-client](https://www.npmjs.com/package/prom-client), 14 or 15. Its
 * types are not needed, and so an app without it can be compiled.
 */
export interface MetricsRegister {
  registerMetric(metric: never): void
  removeSingleMetric(name: string): void
  getSingleMetric(name: string): unknown
}

export interface MetricsOptions {
  /** The register that the metrics are added to: prom-client's `register`, or a `Registry` of your own. */
  register: MetricsRegister
  /** The value of the label `pool`, which tells several pools in one register apart. Default `'default'`. */
  name?: string | undefined
  /** What the names of the metrics begin with. Default `'koa_sse_pool_'`. */
  prefix?: string | undefined
}

const RULES: Record<keyof MetricsOptions, Rule> = {
  register: {
    expected: "a Registry of prom-client, such as its 'register'",
    accepts: value =>
      isRecord(value) && isFunction(value.registerMetric) && isFunction(value.removeSingleMetric),
  },
  name: {
    default: 'default',
    expected: 'a string that is not empty',
    accepts: value => typeof value === 'string' && value !== '',
  },
  prefix: {
    default: 'koa_sse_pool_',
    expected: 'letters, digits and underscores, not beginning with a digit',
    accepts: value => typeof value === 'string' && /^[A-Za-z_]\w*$/.test(value),
  },
}

/**
 * Adds the figures of a pool to a register of prom-client, under the names that docs/metrics.md lists. Several
 * pools may share a register, each with a `name` of its own.
 *
 * @returns a function that removes them again. A pool that has closed keeps its last figures until then.
 * @throws TypeError that names the option if one is missing, unknown or invalid, and for a name that the register
 * already has.
 * @example
 * ```js
 * import { register } from 'prom-client'
 * import { metrics } from 'koa-sse-pool/metrics'
 *
 * metrics(pool, { register })
 * router.get('/metrics', async ctx => {
 *   ctx.type = register.contentType
 *   ctx.body = await register.metrics()
 * })
 * ```
 */
export function metrics<Events extends object>(
  pool: ClientPool<Events>,
  options: MetricsOptions,
): () => void {
  if (!hasHub(pool)) {
    throw new TypeError(`metrics(): the first argument must be a ClientPool; got ${got(pool)}`)
  }
  const { register, name, prefix } = resolve('metrics()', RULES, options) as Required<{
    [Name in keyof MetricsOptions]-?: NonNullable<MetricsOptions[Name]>
  }>
  const exporters = EXPORTERS.get(register) ?? new Map<string, Exporter>()
  EXPORTERS.set(register, exporters)
  const exporter = exporters.get(prefix) ?? new Exporter(register, prefix)
  exporter.add(name, pool)
  exporters.set(prefix, exporter)
  return () => exporter.remove(name, pool)
}

/** By register and prefix: a register has each metric once, whatever the number of pools. */
const EXPORTERS = new WeakMap<MetricsRegister, Map<string, Exporter>>()

/** How often the event loop's delay is looked at, in milliseconds. */
const RESOLUTION_MS = 10

interface NamedFigures {
  readonly name: string
  readonly figures: Figures
}

class Exporter {
  readonly #register: MetricsRegister
  readonly #prefix: string
  readonly #pools = new Map<string, ClientPool>()
  #delay: IntervalHistogram | undefined
  /** What a scrape has read. */
  #figures: readonly NamedFigures[] | undefined
  #lateness: Promise<LoopDelay> | undefined

  constructor(register: MetricsRegister, prefix: string) {
    this.#register = register
    this.#prefix = prefix
  }

  /** @throws TypeError if the name is taken, by a pool or by a metric of another origin. */
  add(name: string, pool: object): void {
    if (this.#pools.has(name)) {
      throw new TypeError(
        `metrics(): this register already has a pool "${name}"; give each pool a name of its own, such as { register, name: 'chat' }`,
      )
    }
    if (this.#pools.size === 0) this.#start()
    this.#pools.set(name, pool as ClientPool)
  }

  remove(name: string, pool: object): void {
    if (this.#pools.get(name) !== pool) return
    this.#pools.delete(name)
    if (this.#pools.size > 0) return
    this.#delay?.disable()
    for (const metric of this.#names) this.#register.removeSingleMetric(metric)
  }

  get #names(): string[] {
    return [...DEFINITIONS, ...PROCESS_DEFINITIONS].map(({ name }) => this.#prefix + name)
  }

  #start(): void {
    const taken = this.#names.find(name => this.#register.getSingleMetric(name) !== undefined)
    if (taken !== undefined) {
      throw new TypeError(
        `metrics(): this register already has a metric "${taken}"; set another prefix, such as { register, prefix: 'sse_' }`,
      )
    }
    this.#delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
    this.#delay.enable()
    for (const definition of DEFINITIONS) {
      this.#add(definition, async () =>
        this.#read().flatMap(({ name, figures }) =>
          definition.samples(figures).map(sample => withLabels(sample, { pool: name })),
        ),
      )
    }
    for (const definition of PROCESS_DEFINITIONS) {
      this.#add(definition, async () => {
        this.#lateness ??= this.#readDelay()
        return definition.samples(await this.#lateness)
      })
    }
  }

  #add(
    { name, type, help }: Definition<never>,
    readSamples: () => Promise<readonly Sample[]>,
  ): void {
    const metric = {
      name: this.#prefix + name,
      type,
      help,
      // How the cluster's register adds up the workers: a sum, but for what is an extreme or a percentile.
      aggregator: /_(max|p99)_/.test(name) ? 'max' : /^(ready|log_up)$/.test(name) ? 'min' : 'sum',
      get: async () => {
        const samples = await readSamples()
        // Not the name from before: for OpenMetrics, the register has taken `_total` off.
        const { name, type, help, aggregator } = metric
        const values = samples.map(({ suffix = '', labels = {}, value }) => ({
          ...(suffix !== '' && { metricName: name + suffix }),
          labels,
          value,
        }))
        return { name, type, help, aggregator, values }
      },
      // The counts are the pool's, and last as long as it does.
      reset: () => {},
    }
    this.#register.registerMetric(metric as never)
  }

  /** All metrics of a scrape are read in one turn, so one look serves them all, and they fit together. */
  #read(): readonly NamedFigures[] {
    if (this.#figures !== undefined) return this.#figures
    queueMicrotask(() => {
      this.#figures = undefined
    })
    this.#figures = [...this.#pools].map(([name, pool]) => ({ name, figures: figuresOf(pool) }))
    return this.#figures
  }

  async #readDelay(): Promise<LoopDelay> {
    // What holds up the loop right now is recorded by a timer that runs next, and would get lost by the reset.
    await turn()
    await turn()
    this.#lateness = undefined
    const delay = this.#delay as IntervalHistogram
    const isEmpty = delay.count === 0
    // An idle loop is measured as late as the measurement's own interval.
    const late = (nanoseconds: number) =>
      isEmpty ? 0 : Math.max(0, nanoseconds - RESOLUTION_MS * 1e6)
    const lateness = { p99: late(delay.percentile(99)), max: late(delay.max) }
    delay.reset()
    return lateness
  }
}

function figuresOf(pool: ClientPool): Figures {
  const hub = hubOf(pool)
  return {
    stats: hub.stats(),
    isReady: hub.isReady,
    limits: hub.options.window,
    latency: hub.inFlight.latency,
  }
}

function withLabels(sample: Sample, more: Labels): Sample {
  return { ...sample, labels: { ...more, ...sample.labels } }
}
