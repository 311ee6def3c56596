/**
 * The chaos run and the model's long run plant bugs in a copy of the source. This finds out sooner that a line to
 * replace has changed.
 */
import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { mutants as ofChaos } from './chaos/mutants.js'
import { mutants as ofModel } from './model/mutants.js'

test.each([...Object.entries(ofChaos), ...Object.entries(ofModel)])(
  'the line that the planted bug %s replaces is in the source once',
  async (_, { file, find, replace }) => {
    const source = await readFile(new URL(`../src/${file}`, import.meta.url), 'utf8')
    expect(source.split(find), `src/${file}: ${find}`).toHaveLength(2)
    expect(replace).not.toBe(find)
  },
)
