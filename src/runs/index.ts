/**
 * Runs: answers of models, jobs and exports that outlive their reader.
 *
 * @module koa-sse-pool/runs
 */
export { memoryRuns } from '../log/memory-runs.js'
export type {
  RunAddition,
  RunAppended,
  RunCreated,
  RunCreation,
  RunLimits,
  RunNews,
  RunPage,
  RunProducer,
  RunRecord,
  RunStore,
} from '../log/run-store.js'
export { type DurableStreamsOptions, durableStreams } from './durable/durable-streams.js'
export type { FormatName } from './formats.js'
export type { RunId, RunStreamOptions, RunsOptions, StartOptions } from './options.js'
export type { Run } from './producer.js'
export type { ReadOptions, RunEvent } from './read.js'
export { type RunAppendable, Runs, type Started } from './runs.js'
export type { RunInfo, RunState } from './state.js'
