/** What will happen in a round; the same seed gives the same rounds. */
import { type FaultName, lanes } from './faults.js'
import type { Random } from './random.js'

interface Step {
  readonly name: FaultName
  /** Milliseconds after the one before. */
  readonly after: number
  /** For what the fault itself draws: whom it hits, and for how long. */
  readonly seed: number
}

export interface Plan {
  /** Each one after the other, and all at the same time. */
  readonly lanes: readonly (readonly Step[])[]
  /** Milliseconds from the last of them to the end of all sending. */
  readonly rest: number
}

/** @param only these faults, of which at least one of each lane happens; all, when it is absent. */
export function planRound(random: Random, only?: readonly string[]): Plan {
  return {
    lanes: lanes.map((lane, index) => {
      const names = Object.keys(lane).filter(name => only?.includes(name) ?? true) as FaultName[]
      // Many things can happen to clients in the time of one of an engine.
      const count = names.length === 0 ? 0 : random.whole(only ? 1 : index, index + 2)
      return Array.from({ length: count }, () => ({
        name: random.pick(names),
        after: random.whole(100, 1200),
        seed: random.whole(0, 2 ** 30),
      }))
    }),
    rest: random.whole(100, 1000),
  }
}
