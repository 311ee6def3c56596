/** What the stores of runs ask of producers. */
import type { RunAppended, RunProducer } from './run-store.js'

/** Why an append of a producer is refused, if so. @param known its newest append */
export function refusalOf(
  { epoch, seq }: RunProducer,
  known: { epoch: number; seq: number } | undefined,
): RunAppended['outcome'] | undefined {
  if (known !== undefined && epoch < known.epoch) return 'stale epoch'
  if (known === undefined || epoch > known.epoch) {
    if (seq === 0) return undefined
    return known === undefined ? 'gap' : 'wrong start'
  }
  if (seq <= known.seq) return 'duplicate'
  return seq === known.seq + 1 ? undefined : 'gap'
}

/** Whether an append may come after another one: `order` must rise, bytewise. */
export function isAfter(order: string, last: string): boolean {
  return Buffer.compare(Buffer.from(order), Buffer.from(last)) > 0
}
