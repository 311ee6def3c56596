/** Plans what happens in a round. The same seed gives the same rounds. */
import type { Lane } from './faults.js'
import type { Random } from './random.js'

interface Step {
  readonly name: string
  /** Milliseconds after the previous step. */
  readonly after: number
  /** The seed for what the fault itself draws: which clients it hits, and for how long. */
  readonly seed: number
}

export interface Plan {
  /** The steps of a lane run one after the other, and all lanes at the same time. */
  readonly lanes: readonly (readonly Step[])[]
  /** Milliseconds from the last step until sending ends. */
  readonly rest: number
}

/** @param only the faults to choose from, at least one of each lane; without it, all faults. */
export function planRound(random: Random, lanes: readonly Lane[], only?: readonly string[]): Plan {
  return {
    lanes: lanes.map((lane, index) => {
      const names = Object.keys(lane).filter(name => only?.includes(name) ?? true)
      // Faults of clients are short: several fit into the time of one engine fault.
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
