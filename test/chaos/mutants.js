// @ts-check
// Bugs that the chaos test must find: each is put into the servers' copy of the source when that is
// built, and never into the source itself. A text that is no longer found there fails the build.

/**
 * @typedef {object} Mutant
 * @property {'redis' | 'nats'} engine where it shows
 * @property {string[]} faults which bring it out soon
 * @property {string} file under src
 * @property {string} find
 * @property {string} replace
 */

/** @type {Record<string, Mutant>} */
export const mutants = {
  /** What was read last may be gone, or another entry: reading goes on as if nothing were. */
  'no-continuity': {
    engine: 'redis',
    faults: ['empty', 'trim'],
    file: 'redis/tail.ts',
    find: 'if (!isSameRow(rows[0], this.#last as Row)) {',
    replace: 'if (rows[0] === this.#last && !isSameRow(rows[0], this.#last as Row)) {',
  },
  /** A cursor that the window lacks is no gap, but the beginning. */
  'unknown-is-tail': {
    engine: 'redis',
    faults: ['leave'],
    file: 'delivery/resume.ts',
    find: 'reader.gap = gapReason(window, reader.lastEventId)',
    replace: 'gapReason(window, reader.lastEventId)\n      reader.goOnAt(window.tail)',
  },
  /** It gets its replay first, and hears of what is new only a little later. */
  'late-attach': {
    engine: 'redis',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'this.#options.onResumed()',
    replace: `this.#options.onResumed()
    setImmediate(() => {
      reader.parked = true
      setTimeout(() => {
        reader.goOnAt(this.#options.window.tail)
        reader.parked = false
        reader.wake()
      }, 50)
    })`,
  },
  /** The first entry after the cursor is taken for the cursor. */
  'off-by-one': {
    engine: 'redis',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'reader.goOnAt(position)',
    replace: 'reader.goOnAt(Math.min(position + 1, this.#options.window.tail))',
  },
  /** The entry at the cursor comes once more. */
  'off-by-one-back': {
    engine: 'nats',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'reader.goOnAt(position)',
    replace: 'reader.goOnAt(position - 1)',
  },
  /** What was sent again after a lost reply is taken for new. */
  'no-dedupe': {
    engine: 'redis',
    faults: ['freeze'],
    file: 'redis/tail.ts',
    find: 'if (ids.has(nonce)) return false',
    replace: '',
  },
}
