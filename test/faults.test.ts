/** The check that docs/faults.md and the names of the tests agree. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { findProblems, numbersIn, readFaults, report } from '../scripts/faults.js'

const LIST = `
| number | input or fault | required behaviour | status |
|--:|---|---|---|
| 1 | a line break in \`event\` | \`TypeError\` | tested |
| 2 | NUL in \`id\` | \`TypeError\` | tested |
| 3 | \`a \\| b\` | nothing | open |
`
const faults = readFaults(LIST)

const passed = (name: string, project = 'unit') => ({ name, project, state: 'passed' })
const ONE = passed('a line break is refused (fault 1)')
const TWO = passed('an id > with NUL is refused (fault 2)')

describe('the list of faults', () => {
  test('is read from the rows of its tables', () => {
    expect([...faults]).toEqual([
      [1, 'tested'],
      [2, 'tested'],
      [3, 'open'],
    ])
  })

  test('is refused if a number is there twice or has another status', () => {
    expect(() => readFaults('| 1 | a | b | open |\n| 1 | c | d | open |')).toThrow('number 1 twice')
    expect(() => readFaults('| 1 | a | b | done |')).toThrow('"tested" or "open"; got "done"')
  })

  test('of the project has every number from 1 on, in order', () => {
    const text = readFileSync(new URL('../docs/faults.md', import.meta.url), 'utf8')
    const numbers = [...readFaults(text).keys()]
    expect(numbers.length).toBeGreaterThanOrEqual(121)
    expect(numbers).toEqual(numbers.map((_, i) => i + 1))
  })
})

test('a name may have one number, several or none', () => {
  expect(numbersIn('goes on (fault 14)')).toEqual([14])
  expect(numbersIn('goes on (faults 25, 26)')).toEqual([25, 26])
  expect(numbersIn('a default 500 is no number, and neither are many faults')).toEqual([])
})

describe('the check of the faults', () => {
  test('accepts a list that agrees with the tests', () => {
    expect(findProblems(faults, [ONE, TWO, passed('something else')])).toEqual([])
  })

  test('accepts one test for several numbers', () => {
    expect(findProblems(faults, [passed('both are refused (faults 1, 2)')])).toEqual([])
  })

  test('fails for a tested number without a test', () => {
    expect(findProblems(faults, [ONE])).toEqual(['2 is marked "tested", but no test names it'])
  })

  test('fails for a number that the list does not have', () => {
    const [problem, ...others] = findProblems(faults, [ONE, TWO, passed('goes on (fault 99)')])
    expect(problem).toBe('99 is not in docs/faults.md: goes on (fault 99)')
    expect(others).toEqual([])
  })

  test.each(['failed', 'skipped', 'pending'])(
    'fails for a number with a test that is %s, though another one passes',
    state => {
      const lean = { ...ONE, project: 'lean', state }
      expect(findProblems(faults, [ONE, lean, TWO])).toEqual([
        `1: ${state} in lean: a line break is refused (fault 1)`,
      ])
    },
  )

  test('fails for an open number that has a test, so that the list is kept current', () => {
    const [problem] = findProblems(faults, [ONE, TWO, passed('nothing happens (fault 3)')])
    expect(problem).toBe('3 is marked "open", but has a test: nothing happens (fault 3)')
  })
})

test('the report has each number, its status and its tests, each once with all its projects', () => {
  expect(report(faults, [ONE, { ...ONE, project: 'lean' }, { ...TWO, state: 'failed' }])).toEqual([
    '   1  tested',
    '      passed: a line break is refused (fault 1) [unit, lean]',
    '   2  tested',
    '      failed: an id with NUL is refused (fault 2) [unit]',
    '   3  open',
  ])
})
