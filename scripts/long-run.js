// @ts-check
// `npm run fuzz -- [--runs n] [--seed n]`, `npm run soak -- [--connects n] [--deliveries n] [--seed n]` and
// `npm run tabs -- [--kills n] [--engine chromium|firefox] [--seed n]`: run the tests of test/fuzz or test/soak, or
// the one that kills tabs, for as long as you like; with one of the first two options of soak, only the tests that
// it concerns. `npm test` runs the short form of each.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

/** The environment variable of each option, its default, and the tests that it concerns if not all. */
/** @type {Record<string, Record<string, [variable: string, byDefault?: string, tests?: string]>>} */
const KINDS = {
  fuzz: { runs: ['FUZZ_RUNS', '1000000'], seed: ['FUZZ_SEED'] },
  soak: {
    connects: ['SOAK_CONNECTS', '200000', 'soak.test'],
    deliveries: ['SOAK_DELIVERIES', '10000000', 'deliveries.test'],
    seed: ['SOAK_SEED'],
  },
  tabs: { kills: ['TABS_KILLS', '1000'], engine: ['TABS_ENGINE'], seed: ['TABS_SEED'] },
}

const [kind = '', ...args] = process.argv.slice(2)
const options = KINDS[kind]
if (options === undefined) throw new TypeError(`The run must be fuzz, soak or tabs; got "${kind}"`)
const { values } = parseArgs({
  args,
  options: Object.fromEntries(Object.keys(options).map(name => [name, { type: 'string' }])),
})
const env = { ...process.env }
const tests = []
for (const [name, [variable, byDefault, concerned]] of Object.entries(options)) {
  const value = values[name] ?? byDefault
  if (value !== undefined) env[variable] = String(value)
  if (values[name] !== undefined && concerned) tests.push(`test/${kind}/${concerned}`)
}
const vitest = ['vitest', 'run']
if (kind === 'tabs') vitest.push('--project', 'browser', 'test/e2e/client-kills.test.ts')
else
  vitest.push(
    '--project',
    'unit',
    '--project',
    'engines',
    ...(tests.length > 0 ? tests : [`test/${kind}/`]),
  )
const { status } = spawnSync('npx', vitest, { stdio: 'inherit', env })
process.exitCode = status ?? 1
