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
