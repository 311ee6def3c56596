// @ts-check
// npm run example -- <name> [options]: runs an example; its server.js reads PORT, HOST and the options.
// It needs no `npm install`: it installs what this example needs if that is missing, and builds the package.
// Only the address goes to stdout, so that a program can read it.
import { fileURLToPath, pathToFileURL } from 'node:url'
import { installMissing } from './example-install.js'
import { examples } from './examples.js'

const [name = '', ...options] = process.argv.slice(2)

const example = Object.hasOwn(examples, name) ? examples[name] : undefined
if (example === undefined) {
  const problem = name === '' ? 'Which example?' : `There is no example "${name}".`
  console.error(`${problem} Run one of:\n`)
  for (const known of Object.keys(examples)) console.error(`  npm run example -- ${known}`)
  process.exit(1)
}
try {
  installMissing(example.packages, example.note)
  // Not before that, because it imports esbuild.
  const { buildIfStale } = await import('./example-build.js')
  await buildIfStale()
} catch (error) {
  console.error(`The example cannot start: ${error instanceof Error ? error.message : error}`)
  process.exit(1)
}
const others = Object.keys(examples).filter(other => other !== name)
console.error(`
The ${name} example of koa-sse-pool. Ctrl+C stops it.
${example.hint}
Then read example/${name}/README.md, or run another one with npm run example -- <name>:
${others.join(', ')}

Open this address:`)
// In this process, so that a signal needs no forwarding: to server.js it looks like `node server.js`.
const server = fileURLToPath(new URL(`../example/${name}/server.js`, import.meta.url))
process.argv = [process.argv[0] ?? 'node', server, ...options]
await import(pathToFileURL(server).href)
