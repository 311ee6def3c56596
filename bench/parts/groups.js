// @ts-check
// Hand-written channels: a Map of Sets.

/** @template Item */
export class Groups {
  /** @type {Map<string, Set<Item>>} */
  #groups = new Map()

  /** @param {string} name @param {Item} item */
  add(name, item) {
    const group = this.#groups.get(name)
    if (group) group.add(item)
    else this.#groups.set(name, new Set([item]))
  }

  /** @param {string} name @param {Item} item */
  delete(name, item) {
    const group = this.#groups.get(name)
    group?.delete(item)
    if (group?.size === 0) this.#groups.delete(name)
  }

  /** @param {string} name @returns {Iterable<Item>} */
  of(name) {
    return this.#groups.get(name) ?? []
  }
}
