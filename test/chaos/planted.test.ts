/** The chaos run finds bugs that are planted in a copy of the package. */
import { expect, test } from 'vitest'
import { runChaos } from './chaos.js'
import { mutants } from './mutants.js'

test.for(Object.keys(mutants))('the chaos run finds the planted bug: %s', async name => {
  const { engine, faults } = mutants[name] as (typeof mutants)[string]
  const run = runChaos({ engine, faults, mutant: name, seed: 7, seconds: 30, clients: 100 })
  await expect(run).rejects.toThrow(
    /client\d+ (never got|got .+ (twice|rejected as not stored)|got no gap)|was rejected as not stored, and arrived|is unknown to the engine|readers of run\d+ were told different ends|reader of run\d+ got event|presence is wrong/,
  )
})
