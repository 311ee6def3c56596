/** What a tab that should see each number once and in order has seen of them. */
export class Numbers {
  lost = 0
  doubled = 0
  outOfOrder = 0
  received = 0
  /** The number that comes next; 0 before the first. */
  #next = 0
  /** What was skipped so far. */
  readonly #missing = new Set<number>()
  /** The tab must see all numbers from this one on, and may see some before it. */
  readonly #from: number

  constructor(from: number) {
    this.#from = from
  }

  take(number: number): void {
    this.received += 1
    if (this.#next === 0) this.#next = Math.min(number, this.#from)
    if (number >= this.#next) {
      for (let skipped = this.#next; skipped < number; skipped++) this.#missing.add(skipped)
      this.#next = number + 1
    } else if (this.#missing.delete(number)) this.outOfOrder += 1
    else this.doubled += 1
  }

  /** Everything up to this number should have arrived. */
  end(last: number): void {
    const next = this.#next || this.#from
    this.lost = this.#missing.size + Math.max(0, last - next + 1)
  }
}
