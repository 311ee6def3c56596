// @ts-check
// npm run example -- <name>: runs an example, with PORT and HOST as its server.js takes them.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const file = path => fileURLToPath(new URL(`../${path}`, import.meta.url))
const names = readdirSync(file('example')).filter(name => existsSync(file(serverOf(name))))
const [name = '', ...options] = process.argv.slice(2)

if (!names.includes(name)) {
  const problem = name === '' ? 'Which example?' : `There is no example "${name}".`
  console.error(`${problem} Run one of:\n`)
  for (const known of names) console.error(`  npm run example -- ${known}`)
  process.exit(1)
}
// The examples import the package as its users do, and so what is built.
if (!existsSync(file('dist/index.js'))) {
  const { status } = spawnSync('npm', ['run', 'build'], { cwd: file(''), stdio: 'inherit' })
  if (status !== 0) process.exit(1)
}
const server = spawn(process.execPath, [file(serverOf(name)), ...options], { stdio: 'inherit' })
server.once('exit', code => process.exit(code ?? 1))
// In a terminal Ctrl+C reaches both; a signal sent to this process alone is passed on.
process.on('SIGINT', () => {})
process.once('SIGTERM', () => server.kill('SIGTERM'))

/** @param {string} example */
function serverOf(example) {
  return `example/${example}/server.js`
}
