/** `npm run chaos`: the arguments, the run and its report. */
import { parseArgs } from 'node:util'
import { runChaos } from './chaos.js'
import { ENGINES, isEngine } from './messages.js'
import { mutants } from './mutants.js'

const { values } = parseArgs({
  options: {
    engine: { type: 'string' },
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Math.trunc(Math.random() * 1e9)) },
    clients: { type: 'string', default: '200' },
    processes: { type: 'string', default: '3' },
    faults: { type: 'string' },
    mutant: { type: 'string' },
  },
})

const whole = (name: 'seed' | 'clients' | 'processes') => {
  const value = Number(values[name])
  if (!Number.isSafeInteger(value)) throw new TypeError(`--${name} must be a whole number`)
  return value
}
const minutes = Number(values.minutes)
if (!(minutes > 0)) throw new TypeError('--minutes must be a number above 0')
const mutant = values.mutant === undefined ? undefined : mutants[values.mutant]
const engine = values.engine ?? mutant?.engine ?? 'redis'
if (!isEngine(engine)) {
  throw new TypeError(`--engine must be one of ${ENGINES.join(', ')}; got "${engine}"`)
}

// process.exit() runs the exit handlers that end the server processes; a signal's default would not.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

console.log(`chaos on ${engine}, seed ${values.seed}`)
try {
  const report = await runChaos({
    engine,
    seed: whole('seed'),
    clients: whole('clients'),
    processes: whole('processes'),
    seconds: minutes * 60,
    faults: values.faults?.split(',') ?? mutant?.faults,
    mutant: values.mutant,
    print: console.log,
  })
  console.log(report)
} catch (error) {
  console.error(`FAILED: ${(error as Error).message}`)
  process.exitCode = 1
}
