// @ts-check
// npm run example -- <name> [options]: runs an example; its server.js reads PORT, HOST and the options.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'

const file = path => fileURLToPath(new URL(`../${path}`, import.meta.url))
const names = readdirSync(file('example')).filter(name => existsSync(file(serverOf(name))))
const [name = '', ...options] = process.argv.slice(2)

if (!names.includes(name)) {
  const problem = name === '' ? 'Which example?' : `There is no example "${name}".`
  console.error(`${problem} Run one of:\n`)
  for (const known of names) console.error(`  npm run example -- ${known}`)
  process.exit(1)
}
// The examples import the built package, as its users do.
if (!existsSync(file('dist/index.js'))) {
  const { status } = spawnSync('npm', ['run', 'build'], { cwd: file(''), stdio: 'inherit' })
  if (status !== 0) process.exit(1)
}
// In this process, so that a signal needs no forwarding: to server.js it looks like `node server.js`.
const server = file(serverOf(name))
process.argv = [process.argv[0] ?? 'node', server, ...options]
await import(pathToFileURL(server).href)

/** @param {string} example */
function serverOf(example) {
  return `example/${example}/server.js`
}
