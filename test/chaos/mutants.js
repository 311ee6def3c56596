// @ts-check
// Bugs that the chaos test must find. Each is put into the built copy of the servers, never into the
// source itself. If the text to replace is no longer in the source, the build fails.

/**
 * @typedef {object} Mutant
 * @property {'redis' | 'nats'} engine on which the bug shows
 * @property {string[]} faults that expose it soon
 * @property {string} file below src
 * @property {string} find
 * @property {string} replace
 */

/** @type {Record<string, Mutant>} */
export const mutants = {
  /** Reading continues although the entry that was read last is gone or has been replaced. */
  'no-continuity': {
    engine: 'redis',
    faults: ['empty', 'trim'],
    file: 'redis/tail.ts',
    find: 'if (!isSameRow(rows[0], this.#last as Row)) {',
    replace: 'if (rows[0] === this.#last && !isSameRow(rows[0], this.#last as Row)) {',
  },
  /** A client whose cursor the window lacks starts at the tail without a gap. */
  'unknown-is-tail': {
    engine: 'redis',
    faults: ['leave'],
    file: 'delivery/resume.ts',
    find: 'reader.gap = gapReason(window, reader.lastEventId)',
    replace: 'gapReason(window, reader.lastEventId)\n      reader.goOnAt(window.tail)',
  },
  /** A client gets its replay first and joins the live events only a little later. */
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
  /** The first entry after the cursor is skipped. */
  'off-by-one': {
    engine: 'redis',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'reader.goOnAt(position)',
    replace: 'reader.goOnAt(Math.min(position + 1, this.#options.window.tail))',
  },
  /** The entry at the cursor is sent once more. */
  'off-by-one-back': {
    engine: 'nats',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'reader.goOnAt(position)',
    replace: 'reader.goOnAt(position - 1)',
  },
  /** An entry that was sent again after a lost reply counts as new. */
  'no-dedupe': {
    engine: 'redis',
    faults: ['freeze'],
    file: 'redis/tail.ts',
    find: 'if (ids.has(nonce)) return false',
    replace: '',
  },
}
