// Bugs planted in the built client, each of which the tests of tabs must find. `find` is the line in the
// bundle of src/client.

/** @type {Record<string, { find: string, replace: string }>} */
export const mutants = {
  'shows again what the tab has had': {
    find: 'if (order <= 0) return "had";',
    replace: '',
  },
  'takes what is broadcast before it knows where the stream is': {
    find: 'else if (!this.#isInStep) return;',
    replace: '',
  },
  'listens to a leader that was frozen meanwhile': {
    find: '"news" in message && message.term >= this.#term',
    replace: '"news" in message',
  },
  'does not go back for a tab that is behind': {
    find: 'this.#goBackTo(message.cursor);',
    replace: '',
  },
  'does not say that the log is another one': {
    find: 'if (verdict === "lost") {',
    replace: 'if (false) {',
  },
  'ignores a gap that was for a tab further back': {
    find: 'compareIds(this.cursor, from) > 0) return "behind";',
    replace: 'compareIds(this.cursor, from) > 0) return "had";',
  },
  'leads by a lock that it asked for in an earlier life': {
    find: 'if (this.#queue === queue) this.#lead(release);\n        else release();',
    replace: 'this.#lead(release);',
  },
  'waits for ever for a leader that is frozen': {
    find: 'this.#request(true)',
    replace: 'undefined',
  },
  'goes on leading when its lock was stolen': {
    find: 'this.#resign();\n        this.#request();',
    replace: 'this.#request();',
  },
  'forgets its cursor when it leaves': {
    find: 'this.#takesPart = false;\n',
    replace: 'this.#takesPart = false; this.#position.cursor = "";\n',
  },
}
