// @ts-check
// Bugs that the model must find: `npm run model -- --mutants` puts each into a copy of the package. If the
// text to replace is no longer in the source, the run fails.

/**
 * @typedef {object} Mutant
 * @property {string} site on which the bug shows
 * @property {string} file below src
 * @property {string} find
 * @property {string} replace
 */

/** @type {Record<string, Mutant>} */
export const mutants = {
  /** The entry at the cursor is sent once more. */
  'resume one too early': {
    site: 'memory',
    file: 'delivery/resume.ts',
    find: 'reader.resumeAt(position, ',
    replace: 'reader.resumeAt(position - 1, ',
  },
  /** The first entry after the cursor is skipped. */
  'resume one too late': {
    site: 'memory',
    file: 'delivery/resume.ts',
    find: 'reader.resumeAt(position, ',
    replace: 'reader.resumeAt(Math.min(position + 1, this.#window.tail), ',
  },
  /** A client whose cursor has left the window starts at the tail without a gap. */
  'no gap after a trim': {
    site: 'memory',
    file: 'delivery/resume.ts',
    find: "reader.lose('trimmed', this.#window.removalFor(reader, after), after)",
    replace: 'reader.resumeAt(this.#window.tail)',
  },
  /** A slow client continues with what the window still has. */
  'no gap for a slow client': {
    site: 'memory',
    file: 'delivery/reader.ts',
    find: "if (window.hasLost(this)) this.#gap = 'lagged'",
    replace: '',
  },
  /** Any eviction gives a gap, whatever the entries were. */
  'gaps for the entries of others': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'if (reader.cursor >= this.start) return false',
    replace: 'return reader.cursor < this.start',
  },
  'except is ignored in shared batches': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'if (!batch.excepts.has(reader.id)) return batch',
    replace: 'return batch',
  },
  'except is ignored in batches of one reader': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: ' || slot.excepts(reader.id)) continue',
    replace: ') continue',
  },
  /** An entry is superseded by one that leaves the client out. */
  'a key ignores except': {
    site: 'memory',
    file: 'delivery/target.ts',
    find: 'if (!newer.excepts(clientId)) return true',
    replace: 'return true',
  },
  'the entries of several targets are not sorted': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'slots.sort((a, b) => a.position - b.position)',
    replace: '',
  },
  /** A slow client gets what was sent to a channel before it joined. */
  'a join replays': {
    site: 'memory',
    file: 'delivery/reader.ts',
    find: 'for (const target of targets) this.#joinedAt.set(target, window.tail)',
    replace: '',
  },
  /** A slow client does not get what was sent to a channel before it left. */
  'a leave forgets': {
    site: 'memory',
    file: 'delivery/reader.ts',
    find: 'this.#leftAt.set(left, window.tail)',
    replace: 'this.#leftAt.set(left, this.#cursor)',
  },
  'a leave is ignored': {
    site: 'memory',
    file: 'delivery/reader.ts',
    find: 'if (!this.#targets.includes(left)) return',
    replace: 'if (left) return',
  },
  /** The close event comes before what was sent earlier. */
  'an end overtakes': {
    site: 'memory',
    file: 'stream/stream.ts',
    find: 'this.#push(frame ?? this.#lastFrame(data), after, reason)',
    replace: 'this.#push(frame ?? this.#lastFrame(data), 0, reason)',
  },
  /** What is sent after end() still arrives. */
  'an end waits for what comes later': {
    site: 'memory',
    file: 'delivery/pump.ts',
    find: 'const upTo = directAfter === undefined ? window.tail : Math.min(directAfter, window.tail)',
    replace: 'const upTo = window.tail',
  },
  /** A client that was away when it was removed comes back as if nothing had happened. */
  'a removal is not replayed': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: "const removal = address?.kind === 'remove'",
    replace:
      "const removal = address?.kind === 'remove' && this.sizeOf(targetOfMembers(address)) > 0",
  },
  /** A gap skips the removal of a slow client. */
  'a gap hides a removal': {
    site: 'memory',
    file: 'delivery/reader.ts',
    find: 'return this.#removal !== undefined',
    replace: 'return this.#removal === null',
  },
  'a removed client may come back': {
    site: 'memory',
    file: 'koa/middleware.ts',
    find: 'if (lastEventId === END_ID) return stopReconnecting(ctx)',
    replace: '',
  },
  /** A client gets the tail as its cursor before it is decided where it continues. */
  'a heartbeat skips': {
    site: 'memory',
    file: 'delivery/reader.ts',
    find: 'return !this.#isParked && this.#gap === undefined && ',
    replace: 'return this.#gap === undefined && ',
  },
  /** Entries leave the window although healthy clients have not got them. */
  'the window does not wait for the pump': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'listener?.evicting(target)',
    replace: '',
  },
  /** A slow client that comes back after the drain has lost what was waiting. */
  'a drain ends like end()': {
    site: 'two pools',
    file: 'stream/closing.ts',
    find: "drain: 'quiet end'",
    replace: "drain: 'close event'",
  },
  /** An end does not wait for sends that are on their way to the engine. */
  'an end ignores sends in flight': {
    site: 'redis',
    file: 'stream/stream.ts',
    find: 'const waits = after === undefined && inFlight.isAwaited(this.targets)',
    replace: 'const waits = false',
  },
  /** A send resolves before its entry has come back. */
  'a send does not wait for its arrival': {
    site: 'redis',
    file: 'delivery/in-flight.ts',
    find: 'await send.arrival',
    replace: '',
  },
  /** An entry that was sent again after a lost reply counts as new. */
  'no dedupe': {
    site: 'redis',
    file: 'redis/tail.ts',
    find: 'if (ids.has(nonce)) return false',
    replace: '',
  },
  /** An entry that was sent again has the id of its repetition, which no reader knows. */
  'a repetition gives its own id': {
    site: 'redis',
    file: 'redis/index.ts',
    find: 'await this.#whenRead(rowId)',
    replace: '',
  },
  /** Entries that arrive while the log is asked make it look like another one. */
  'a barrier compares with what came later': {
    site: 'nats',
    file: 'nats/index.ts',
    find: 'if (tail.isOther(facts, position)) this',
    replace: 'if (tail.isOther(facts)) this',
  },
  'only the first of several clients is left out': {
    site: 'memory',
    file: 'delivery/target.ts',
    find: 'except.includes(clientId)',
    replace: 'except[0] === clientId',
  },
  'an event for two channels reaches only the first': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'if (address?.also !== undefined) this.#insertTwins(slot, entry, address)',
    replace: '',
  },
  'a member of two channels gets an event for both twice': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'slots.filter(isFirstAtPosition)',
    replace: 'slots',
  },
  'what has expired is replayed': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'if (slot.newer !== undefined || slot.hasExpired) continue',
    replace: 'if (slot.newer !== undefined) continue',
  },
  'what has expired is replayed to a reader of its own': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'if (slot.hasExpired || (slot.isVolatile',
    replace: 'if ((slot.isVolatile',
  },
  'a shared batch keeps what has expired': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'shared !== undefined && !isOver(shared)',
    replace: 'shared !== undefined',
  },
  'a volatile event is replayed': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: '(slot.isVolatile && slot.position <= liveAfter)',
    replace: 'slot.isVolatile === undefined',
  },
  'a volatile event is replayed in a shared batch': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: '(reader.cursor >= this.#newestVolatile || reader.cursor >= reader.liveAfter)',
    replace: 'true',
  },
  'a slow client gets no volatile event': {
    site: 'memory',
    file: 'delivery/window.ts',
    find: 'slot.position <= liveAfter)',
    replace: 'slot.position <= this.#tail)',
  },
  'a volatile event is a loss': {
    site: 'memory',
    file: 'delivery/target.ts',
    find: 'if (slot.isVolatile || slot.hasExpired) return',
    replace: 'if (slot.hasExpired) return',
  },
  'a client that is taken out of a channel stays': {
    site: 'two pools',
    file: 'pool/members.ts',
    find: 'stream.leave(this.#window, target)\n        target.delete(stream)',
    replace: '',
  },
  'a client that is put into a channel gets older events': {
    site: 'two pools',
    file: 'pool/members.ts',
    find: 'stream.join(this.#window, [target])',
    replace: 'stream.follow(stream.targets.toSpliced(-1, 0, target))',
  },
}
