// @ts-check
// Bugs that the chaos test must find. Each is put into the built copy of the servers, never into the
// source itself. If the text to replace is no longer in the source, the build fails.

/**
 * @typedef {object} Mutant
 * @property {import('./messages.js').EngineName} engine on which the bug shows
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
    find: "reader.lose('trimmed', this.#window.removalFor(reader, after), after)",
    replace: 'reader.resumeAt(this.#window.tail)',
  },
  /** A client gets its replay first and joins the live events only a little later. */
  'late-attach': {
    engine: 'redis',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'this.#listener.resumed(reader)',
    replace: `this.#listener.resumed(reader)
    setImmediate(() => {
      reader.park()
      setTimeout(() => {
        reader.resumeAt(this.#window.tail)
        reader.wake()
      }, 50)
    })`,
  },
  /** The first entry after the cursor is skipped. */
  'off-by-one': {
    engine: 'redis',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'reader.resumeAt(position, ',
    replace: 'reader.resumeAt(Math.min(position + 1, this.#window.tail), ',
  },
  /** The entry at the cursor is sent once more. */
  'off-by-one-back': {
    engine: 'nats',
    faults: ['part'],
    file: 'delivery/resume.ts',
    find: 'reader.resumeAt(position, ',
    replace: 'reader.resumeAt(position - 1, ',
  },
  /** An entry that was sent again after a lost reply counts as new. */
  'no-dedupe': {
    engine: 'redis',
    faults: ['freeze'],
    file: 'redis/tail.ts',
    find: 'if (ids.has(nonce)) return false',
    replace: '',
  },
  /** An append whose reply was lost counts as not stored. */
  'postgres-lost-reply': {
    engine: 'postgres',
    faults: ['cut'],
    file: 'postgres/appender.ts',
    find: 'const isRefused = isErrorReply(error)',
    replace: 'const isRefused = isErrorReply(error) || error instanceof Error',
  },
  /** A process goes on with a file that was deleted. */
  'sqlite-deleted-file': {
    engine: 'sqlite',
    faults: ['wipe'],
    file: 'sqlite/connection.ts',
    find: 'if (fileOf(this.#file.path) === this.#identity) return',
    replace: 'if (fileOf(this.#file.path) !== "") return',
  },
  /** A reader of a run that comes back misses the first event after its offset. */
  'run-off-by-one': {
    engine: 'redis',
    faults: ['part'],
    file: 'runs/run-pages.ts',
    find: 'return { position: given.position }',
    replace: 'return { position: Math.min(given.position + 1, record.tail) }',
  },
  /** The members of a process that was killed stay. */
  'presence-no-leave': {
    engine: 'redis',
    faults: ['kill'],
    file: 'presence/roster.ts',
    find: 'this.#processes.delete(message.who)',
    replace: 'if (this.#processes.delete(message.who)) return []',
  },
  /** Of ten changes, one is never sent to the pages. */
  'presence-forgotten-change': {
    engine: 'nats',
    faults: ['part'],
    file: 'presence/presence.ts',
    find: 'if (roster === this.#roster) this.#told = next.number',
    replace:
      'if (roster === this.#roster) this.#told = next.number + (next.number % 10 === 0 ? 1 : 0)',
  },
  /** A page that opens gets the changes, but not the members that are there already. */
  'presence-no-snapshot': {
    engine: 'redis',
    faults: ['part'],
    file: 'presence/presence.ts',
    find: "pool.on('start', stream => this.#showAll(stream))",
    replace: '',
  },
}
