// @ts-check
// `npm run faults`: prints each number of docs/faults.md with its tests and their results, and exits
// with 1 where the list and the tests disagree. The results are those of the last `vitest run` of all
// tests; without one, `vitest list` gives the names. `--check` prints only what is wrong.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** @typedef {'tested' | 'open'} Status */
/** @typedef {{ name: string, project?: string, state: string }} TestResult */

const root = new URL('../', import.meta.url)
const cache = 'node_modules/.cache/koa-sse-pool/'

/** Where the reporter leaves the results of a whole run, as an array of {@link TestResult}. */
export const resultsFile = fileURLToPath(new URL(`${cache}tests.json`, root))

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.includes('--check'))

/** @param {boolean} quiet */
function main(quiet) {
  const faults = readFaults(readFileSync(new URL('docs/faults.md', root), 'utf8'))
  const hasResults = existsSync(resultsFile)
  if (quiet && !hasResults) {
    console.error('faults: there are no results; run all tests first, by: npx vitest run')
    process.exit(1)
  }
  const tests = hasResults ? JSON.parse(readFileSync(resultsFile, 'utf8')) : listTests()
  if (!quiet) {
    for (const line of report(faults, tests)) console.log(line)
    if (!hasResults) console.log('\nNo result is known: no run of all tests has been recorded.')
  }
  const problems = findProblems(faults, tests)
  for (const problem of problems) console.error(`faults: ${problem}`)
  if (problems.length > 0) process.exit(1)
}

/**
 * The numbers of the list and their status.
 *
 * @param {string} markdown
 * @returns {Map<number, Status>}
 */
export function readFaults(markdown) {
  const faults = new Map()
  for (const [, digits, status] of markdown.matchAll(/^\| (\d+) \|.*\| ([^|]*) \|$/gm)) {
    const number = Number(digits)
    if (faults.has(number)) throw new Error(`docs/faults.md lists number ${number} twice`)
    if (status !== 'tested' && status !== 'open') {
      throw new Error(`docs/faults.md: ${number} must be "tested" or "open"; got "${status}"`)
    }
    faults.set(number, status)
  }
  return faults
}

/**
 * The numbers that a test names, as in `… (fault 14)` or `… (faults 25, 26)`.
 *
 * @param {string} name
 */
export function numbersIn(name) {
  const lists = name.matchAll(/\bfaults? (\d+(?:, \d+)*)/g)
  return [...lists].flatMap(([, list = '']) => list.split(', ').map(Number))
}

/**
 * One line for each number, followed by one for each test that names it. A test that runs in several
 * projects is one line.
 *
 * @param {Map<number, Status>} faults
 * @param {TestResult[]} tests
 * @returns {string[]}
 */
export function report(faults, tests) {
  return [...faults].flatMap(([number, status]) => {
    /** @type {Map<string, Set<string>>} */
    const lines = new Map()
    for (const { name, project, state } of naming(number, tests)) {
      const line = `      ${state}: ${sentence(name)}`
      lines.set(line, (lines.get(line) ?? new Set()).add(project ?? ''))
    }
    const named = [...lines].map(([line, projects]) => {
      const where = [...projects].filter(Boolean).join(', ')
      return where ? `${line} [${where}]` : line
    })
    return [`${String(number).padStart(4)}  ${status}`, ...named]
  })
}

/**
 * Where the list and the tests disagree. A state other than `passed` counts as a failure, except for
 * `not run`, which says that no results were recorded.
 *
 * @param {Map<number, Status>} faults
 * @param {TestResult[]} tests
 * @returns {string[]}
 */
export function findProblems(faults, tests) {
  /** @type {string[]} */
  const problems = []
  for (const [number, status] of faults) {
    const named = naming(number, tests)
    if (status === 'tested' && named.length === 0) {
      problems.push(`${number} is marked "tested", but no test names it`)
    }
    if (status === 'open' && named.length > 0) {
      problems.push(`${number} is marked "open", but has a test: ${sentence(named[0]?.name)}`)
    }
    for (const { name, project, state } of named) {
      if (state === 'passed' || state === 'not run') continue
      problems.push(`${number}: ${state} in ${project ?? 'the tests'}: ${sentence(name)}`)
    }
  }
  for (const { name } of tests) {
    for (const number of numbersIn(name)) {
      if (!faults.has(number))
        problems.push(`${number} is not in docs/faults.md: ${sentence(name)}`)
    }
  }
  return [...new Set(problems)]
}

/** @param {number} number @param {TestResult[]} tests */
function naming(number, tests) {
  return tests.filter(({ name }) => numbersIn(name).includes(number))
}

/** The names of the suites and the test read as one sentence. @param {string} [name] */
function sentence(name = '') {
  return name.replaceAll(' > ', ' ')
}

/** @returns {TestResult[]} */
function listTests() {
  const file = fileURLToPath(new URL(`${cache}names.json`, root))
  mkdirSync(dirname(file), { recursive: true })
  const { status, stderr } = spawnSync('npx', ['vitest', 'list', `--json=${file}`], {
    cwd: fileURLToPath(root),
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`vitest list failed:\n${stderr}`)
  /** @type {{ name: string, projectName?: string }[]} */
  const listed = JSON.parse(readFileSync(file, 'utf8'))
  rmSync(file)
  return listed.map(({ name, projectName }) => ({
    name,
    ...(projectName && { project: projectName }),
    state: 'not run',
  }))
}
