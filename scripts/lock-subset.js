// @ts-check

/**
 * @typedef {Partial<Record<'dependencies' | 'devDependencies' | 'optionalDependencies' | 'peerDependencies', Record<string, string>>>
 *   & { peerDependenciesMeta?: Record<string, { optional?: boolean }>, dev?: boolean }} Entry
 * @typedef {{ lockfileVersion: number, packages: Record<string, Entry> }} Lock
 */

/**
 * A manifest with some of a project's development dependencies, and the part of its lock file that `npm ci`
 * needs for them. Throws if the project does not name one, or the lock file is without one that is required.
 *
 * The format of the lock file: https://docs.npmjs.com/cli/configuring-npm/package-lock-json
 *
 * @param {Lock} lock
 * @param {string} name the name of the manifest
 * @param {readonly string[]} wanted
 */
export function subsetOf({ lockfileVersion, packages }, name, wanted) {
  const { devDependencies = {} } = packages[''] ?? {}
  /** @type {Record<string, string>} */
  const dependencies = {}
  for (const each of wanted) {
    const range = devDependencies[each]
    if (range === undefined) throw new Error(`package.json has no devDependency ${each}`)
    dependencies[each] = range
  }
  const manifest = { name, private: true, dependencies }
  /** @type {Record<string, Entry>} */
  const found = {}
  for (const each of wanted) add(each, '')
  return { manifest, lock: { name, lockfileVersion, packages: { '': manifest, ...found } } }

  /** @param {string} each @param {string} from @param {boolean} [isOptional] */
  function add(each, from, isOptional = false) {
    const path = resolve(each, from)
    if (path === undefined && isOptional) return
    if (path === undefined) throw new Error(`package-lock.json has no ${each} for ${from}`)
    if (path in found) return
    // Here it is what the example runs on.
    const { dev, ...entry } = /** @type {Entry} */ (packages[path])
    found[path] = entry
    const { peerDependenciesMeta: peers = {} } = entry
    for (const other of Object.keys(entry.dependencies ?? {})) add(other, path)
    for (const other of Object.keys(entry.optionalDependencies ?? {})) add(other, path, true)
    for (const other of Object.keys(entry.peerDependencies ?? {})) {
      if (!peers[other]?.optional) add(other, path)
    }
  }

  /** Where the package at `from` finds another one, as Node looks for it: in its own node_modules, then further up. */
  function resolve(/** @type {string} */ each, /** @type {string} */ from) {
    for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
      const path = `${at === '' ? '' : `${at}/`}node_modules/${each}`
      if (path in packages) return path
      if (at === '') return undefined
    }
  }
}
