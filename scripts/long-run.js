// @ts-check
// `npm run fuzz -- [--runs n] [--seed n]` and `npm run soak -- [--connects n] [--seed n]`: run the tests
// of test/fuzz or test/soak alone, for as long as you like. `npm test` runs the short form of both.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

/** The environment variable of each option, and its default. */
/** @type {Record<string, Record<string, [variable: string, byDefault?: string]>>} */
const KINDS = {
  fuzz: { runs: ['FUZZ_RUNS', '1000000'], seed: ['FUZZ_SEED'] },
  soak: { connects: ['SOAK_CONNECTS', '200000'], seed: ['SOAK_SEED'] },
}

const [kind = '', ...args] = process.argv.slice(2)
const options = KINDS[kind]
if (options === undefined) throw new TypeError(`The run must be fuzz or soak; got "${kind}"`)
const { values } = parseArgs({
  args,
  options: Object.fromEntries(Object.keys(options).map(name => [name, { type: 'string' }])),
})
const env = { ...process.env }
for (const [name, [variable, byDefault]] of Object.entries(options)) {
  const value = values[name] ?? byDefault
  if (value !== undefined) env[variable] = String(value)
}
const vitest = ['vitest', 'run', '--project', 'unit', `test/${kind}/`]
const { status } = spawnSync('npx', vitest, { stdio: 'inherit', env })
process.exitCode = status ?? 1
