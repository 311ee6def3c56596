/** What a newcomer does: a clone, and `npm start` in it. The clone has what is in the work tree. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
let clone: string

beforeAll(() => {
  clone = mkdtempSync(join(tmpdir(), 'koa-sse-pool-'))
  const list = ['ls-files', '--cached', '--others', '--exclude-standard', '-z']
  const files = execFileSync('git', list, { cwd: ROOT, encoding: 'utf8' }).split('\0')
  // git also lists a file that is deleted and not committed yet.
  for (const file of files.filter(file => file !== '' && existsSync(join(ROOT, file)))) {
    mkdirSync(dirname(join(clone, file)), { recursive: true })
    cpSync(join(ROOT, file), join(clone, file))
  }
})

afterAll(() => rmSync(clone, { recursive: true, force: true }))

test('npm start installs only what the demo needs, without a warning, and serves its page', async () => {
  const demo = npmStart()
  const [errors, url] = [demo.stderr.toArray(), await demo.url]
  const response = await fetch(url)
  expect(response.status).toBe(200)
  expect(await response.text()).toContain('koa-sse-pool')
  expect(await (await fetch(`${url}/client.js`)).text()).toContain('PoolEventSource')

  const modules = join(clone, 'node_modules')
  const installed = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8'))
  expect(Object.keys(installed.packages).length).toBeLessThan(100)
  expect(sizeOf(modules)).toBeLessThan(40 * 2 ** 20)
  expect(readdirSync(clone).filter(name => name.startsWith('.example'))).toEqual([])

  demo.kill('SIGTERM')
  const output = (await errors).join('')
  expect(output).toContain('Installing what the example needs')
  expect(output).toContain('Ctrl+C')
  expect(output).not.toMatch(/npm (warn|error)/i)
})

test('npm start installs and builds nothing a second time', async () => {
  const demo = npmStart()
  const errors = demo.stderr.toArray()
  await demo.url
  demo.kill('SIGTERM')
  expect((await errors).join('')).not.toMatch(/Installing|Building/)
})

function npmStart() {
  // Without what npm tells the scripts that it runs, such as this test: a newcomer's shell has none of it.
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))
  const env = { ...Object.fromEntries(inherited), PORT: '0' }
  const demo = spawn('npm', ['start', '--silent'], { cwd: clone, env })
  onTestFinished(() => void demo.kill('SIGTERM'))
  const url = once(createInterface({ input: demo.stdout }), 'line').then(([line]) => line as string)
  return Object.assign(demo, { url })
}

function sizeOf(folder: string): number {
  const output = execFileSync('du', ['-s', '--block-size=1', folder], { encoding: 'utf8' })
  return Number.parseInt(output, 10)
}
