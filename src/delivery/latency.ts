/** A histogram of durations: an observation costs a few comparisons and two additions. */

/** The upper bounds of its buckets, in seconds: from a local engine to one that is about to time out. */
export const LATENCY_BOUNDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const

export class Latency {
  /** How many were in each bucket; the last one has no upper bound. */
  readonly buckets: number[] = new Array(LATENCY_BOUNDS.length + 1).fill(0)
  /** The sum of all, in seconds. */
  sum = 0

  /** Adds what has passed since a time of `performance.now()`. */
  since(start: number): void {
    const seconds = (performance.now() - start) / 1000
    let bucket = 0
    while (seconds > (LATENCY_BOUNDS[bucket] ?? Number.POSITIVE_INFINITY)) bucket += 1
    this.buckets[bucket] = (this.buckets[bucket] as number) + 1
    this.sum += seconds
  }
}
