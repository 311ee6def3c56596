// @ts-check
// What can be imported of this package: `exports` in package.json is the one list, and the build,
// the tests and the documentation follow it. A subpath's source is the index.ts of its room.
import { readFileSync } from 'node:fs'

const { name, exports } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
)

/**
 * What a user imports, the file of it in dist/ without its extension, and its source.
 *
 * @type {{ specifier: string, file: string, source: string }[]}
 */
export const subpaths = Object.keys(exports)
  .filter(path => path !== './package.json')
  .map(path => {
    const room = path.slice(2)
    return room === ''
      ? { specifier: name, file: 'index', source: 'src/index.ts' }
      : { specifier: `${name}/${room}`, file: room, source: `src/${room}/index.ts` }
  })
