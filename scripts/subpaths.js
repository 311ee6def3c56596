// @ts-check
// The package's entry points. `exports` in package.json is the only list: the build, the tests and the
// documentation derive theirs from it. The source of a subpath is the index.ts of the folder it names.
import { readFileSync } from 'node:fs'

const { name, exports } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
)

/**
 * Each has the specifier to import, its file in dist/ without the extension, and its source.
 *
 * @type {{ specifier: string, file: string, source: string }[]}
 */
export const subpaths = Object.keys(exports)
  // Files are exported as they are: package.json and the plain script.
  .filter(path => !/\.js(on)?$/.test(path))
  .map(path => {
    const room = path.slice(2)
    return room === ''
      ? { specifier: name, file: 'index', source: 'src/index.ts' }
      : { specifier: `${name}/${room}`, file: room, source: `src/${room}/index.ts` }
  })
